"""Which moments of a clip are asked for, and which frame is on display at each.

Pure functions of numbers. Every policy asks for times; a time takes the frame on display then: the
last one whose pts is not later. Times that fall on one frame collapse into it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from reelsight.errors import ConfigError

__all__ = ["Sampling", "on_display", "stretches", "target_count", "target_times"]

# An end that is a sum of floats may lie a hair behind the time it stands for.
_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Sampling:
    """How times are chosen.

    Attributes:
        policy: `rate`: t = 0, 1/rate, 2/rate ... before the end. `count`: the midpoints of `count`
            equal intervals of the whole clip.
        rate: Frames per second of clip time, > 0; read by policy `rate`.
        count: Frames per clip, >= 1; read by policy `count`.

    Raises:
        ConfigError: A number is out of its range.
    """

    policy: Literal["rate", "count"] = "rate"
    rate: float = 1.0
    count: int = 8

    def __post_init__(self) -> None:
        if self.policy not in ("rate", "count"):
            raise ConfigError(f"sampling policy must be 'rate' or 'count', got {self.policy!r}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"sampling rate must be > 0 frames per second, got {self.rate!r}")
        if self.count < 1:
            raise ConfigError(f"sampling count must be >= 1, got {self.count!r}")

    def __str__(self) -> str:
        return f"rate:{self.rate:g}" if self.policy == "rate" else f"count:{self.count}"


def target_times(sampling: Sampling, end_s: float | None) -> Iterator[float]:
    """The times asked for, ascending, in seconds from the first displayed frame.

    Args:
        sampling: The policy.
        end_s: Where the clip ends. None means not known yet, which only policy `rate` allows; the
            times then never stop.

    Raises:
        ValueError: Policy `count` without an end.
    """
    if sampling.policy == "rate":
        if end_s is None:
            return (k / sampling.rate for k in itertools.count())
        return (k / sampling.rate for k in range(target_count(sampling, end_s)))
    if end_s is None:
        raise ValueError("policy 'count' needs the clip's end, got None")
    return ((k + 0.5) * end_s / sampling.count for k in range(sampling.count))


def stretches(sampling: Sampling, pts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where the stretch that each sampled frame stands for begins.

    Policy `rate` samples the beginning of a stretch, so it begins at the frame itself. Policy
    `count` samples the middle of one, so it begins halfway from the frame before, the first at 0.

    Args:
        sampling: The policy.
        pts: float64 [N] seconds, ascending.

    Returns:
        float64 [N] seconds, ascending.
    """
    if sampling.policy == "rate":
        return pts
    return np.concatenate([[0.0], (pts[:-1] + pts[1:]) / 2])[: len(pts)]


def target_count(sampling: Sampling, end_s: float) -> int:
    """How many times are asked for in a clip that ends at `end_s` seconds; at least 1."""
    if sampling.policy == "count":
        return sampling.count
    return max(1, math.ceil((end_s - _ROUNDING_S) * sampling.rate))


def on_display(
    pts: Sequence[float] | npt.NDArray[np.float64], times: Sequence[float], slack_s: float = 0.0
) -> list[int]:
    """Index of the frame on display at each time: the whole rule, for when all pts are known.

    Args:
        pts: Seconds, ascending, at least one.
        times: Seconds.
        slack_s: A frame this much late still counts as on time (half a tick of the file's clock).

    Returns:
        One index into `pts` per time; 0 for times before the first frame.
    """
    found = np.searchsorted(np.asarray(pts), np.asarray(times) + slack_s, side="right") - 1
    return [int(i) for i in np.maximum(found, 0)]
