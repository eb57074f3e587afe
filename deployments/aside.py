"""Work off the event loop where it takes long, and on it where a thread would cost more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["aside"]

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
