"""Work off the event loop where it takes long, and on it where a thread would cost more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["aside", "scoring_is_long"]

# Scores, of a frame and a label each, that take about two milliseconds: 32 frames of 300 labels.
# A long clip with a large bank takes seconds, in which nothing else would be answered.
_SCORES = 10_000

_Result = TypeVar("_Result")


async def aside(long: bool, work: Callable[..., _Result], *arguments: object) -> _Result:
    """What work gives.

    Args:
        long: Whether it takes longer than a thread costs.
        work: Called with the arguments.
        arguments: Of the work.
    """
    if not long:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)


def scoring_is_long(frames: int, labels: int) -> bool:
    """Whether scoring so many frames against so many labels is work for `aside`."""
    return frames * labels >= _SCORES
