"""Which moments of a clip are asked for, and which picture serves each.

Pure functions of numbers. Where nothing else is said a time takes the frame on display then: the
last one whose pts is not later. Times that fall on one frame collapse into it. What a cut looks
like is not known here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from reelsight.errors import ConfigError

__all__ = [
    "ACCURACIES",
    "POLICIES",
    "Accuracy",
    "Policy",
    "Sampling",
    "chosen",
    "on_display",
    "stretches",
    "target_count",
    "target_times",
]

Policy = Literal["rate", "count", "keyframe", "keyframe+fill", "scene"]
Accuracy = Literal["exact", "reference", "fast"]
POLICIES: tuple[Policy, ...] = ("rate", "count", "keyframe", "keyframe+fill", "scene")
ACCURACIES: tuple[Accuracy, ...] = ("exact", "reference", "fast")

# An end that is a sum of floats may lie a hair behind the time it stands for.
_ROUNDING_S = 1e-6
_N = r"\d+(?:\.\d+)?(?:e[+-]?\d+)?"
_SPELLING = re.compile(
    rf"(?P<policy>[a-z+]+)(:(?P<first>{_N})(-(?P<second>{_N})(:(?P<third>{_N}))?)?)?"
    r"(@(?P<accuracy>[a-z]+))?"
)
# Which fields the numbers of a spelling are, in order.
_FIELDS = {
    "rate": ("rate",),
    "count": ("count",),
    "keyframe": ("every_s",),
    "keyframe+fill": ("rate",),
    "scene": ("min_gap_s", "max_gap_s", "threshold"),
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """How times are chosen, and how exactly they are met.

    Attributes:
        policy: `rate`: t = 0, 1/rate, 2/rate ... before the end. `count`: the midpoints of `count`
            equal intervals of the whole clip. `keyframe`: every keyframe; with `every_s`, the
            keyframe on display at t = 0, every_s, 2 every_s ... `keyframe+fill`: the times of
            `rate`; a keyframe that is on display, or else the nearest within half an interval,
            serves, and where there is none the frame on display. `scene`: the first frame, the
            first of every scene, and one wherever `max_gap_s` went by without.
        rate: Frames per second of clip time, > 0; read by `rate` and `keyframe+fill`.
        count: Frames per clip, >= 1; read by `count`.
        every_s: Seconds, >= 0; read by `keyframe`, where 0 takes every keyframe.
        min_gap_s: Seconds, >= 0; read by `scene`. A cut sooner than this after the last frame
            taken is met once the gap has gone by.
        max_gap_s: Seconds, > min_gap_s; read by `scene`.
        threshold: Share of the picture, 0 to 1 exclusive, that must change its brightness between
            two pictures to be a cut (see `scene.change`); read by `scene`.
        accuracy: `exact`: the pictures that the policy names. `reference`: only pictures that
            others refer to are decoded; the last such at or before the time serves. `fast`: that,
            and without the codec's loop filter, so pixels differ a little until the next keyframe.
            Where a stream does not tell which pictures are referred to, all count as such.

    Raises:
        ConfigError: A word is not known or a number is out of its range.
    """

    policy: Policy = "rate"
    rate: float = 1.0
    count: int = 8
    every_s: float = 0.0
    min_gap_s: float = 0.5
    max_gap_s: float = 10.0
    threshold: float = 0.3
    accuracy: Accuracy = "exact"

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(
                f"sampling policy must be one of {', '.join(POLICIES)}, got {self.policy!r}"
            )
        if self.accuracy not in ACCURACIES:
            raise ConfigError(
                f"sampling accuracy must be one of {', '.join(ACCURACIES)}, got {self.accuracy!r}"
            )
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"sampling rate must be > 0 frames per second, got {self.rate!r}")
        if self.count < 1:
            raise ConfigError(f"sampling count must be >= 1, got {self.count!r}")
        if not (math.isfinite(self.every_s) and self.every_s >= 0):
            raise ConfigError(f"sampling every_s must be >= 0 seconds, got {self.every_s!r}")
        if not 0 <= self.min_gap_s < self.max_gap_s < math.inf:
            raise ConfigError(
                "sampling needs 0 <= min_gap_s < max_gap_s seconds, "
                f"got {self.min_gap_s!r} and {self.max_gap_s!r}"
            )
        if not 0 < self.threshold < 1:
            raise ConfigError(f"sampling threshold must be in 0..1, got {self.threshold!r}")

    @classmethod
    def parse(cls, text: str) -> Sampling:
        """A sampling by its name: what `str` gives, with every number optional.

        Args:
            text: `rate:R`, `count:N`, `keyframe`, `keyframe:S`, `keyframe+fill:R`, `scene`,
                `scene:MIN-MAX` or `scene:MIN-MAX:THRESHOLD`; behind it `@reference` or `@fast`.

        Raises:
            ConfigError: It is none of these.
        """
        found = _SPELLING.fullmatch(text)
        if found is None or found["policy"] not in POLICIES:
            raise _misspelt(text)
        names = _FIELDS[found["policy"]]
        numbers = [n for n in (found["first"], found["second"], found["third"]) if n is not None]
        if len(numbers) > len(names) or (found["policy"] == "scene" and len(numbers) == 1):
            raise _misspelt(text)
        try:
            given = {
                name: int(number) if name == "count" else float(number)
                for name, number in zip(names, numbers, strict=False)
            }
        except ValueError as error:
            raise _misspelt(text) from error
        accuracy = found["accuracy"] or "exact"
        return cls(policy=found["policy"], accuracy=accuracy, **given)  # type: ignore[arg-type]

    def __str__(self) -> str:
        name = {
            "rate": f"rate:{self.rate:g}",
            "count": f"count:{self.count}",
            "keyframe": f"keyframe:{self.every_s:g}" if self.every_s else "keyframe",
            "keyframe+fill": f"keyframe+fill:{self.rate:g}",
            "scene": f"scene:{self.min_gap_s:g}-{self.max_gap_s:g}:{self.threshold:g}",
        }[self.policy]
        return name if self.accuracy == "exact" else f"{name}@{self.accuracy}"

    @property
    def interval_s(self) -> float | None:
        """Seconds between the times asked for, where they are a fixed grid from 0; else None."""
        if self.policy in ("rate", "keyframe+fill"):
            return 1 / self.rate
        return self.every_s or None if self.policy == "keyframe" else None


def _misspelt(text: str) -> ConfigError:
    return ConfigError(
        f"no sampling is spelt {text!r}",
        hint="rate:R, count:N, keyframe, keyframe:S, keyframe+fill:R, scene, scene:MIN-MAX or "
        "scene:MIN-MAX:THRESHOLD; behind it @reference or @fast.",
    )


def target_times(sampling: Sampling, end_s: float | None) -> Iterator[float]:
    """The times asked for, ascending, in seconds from the first displayed frame.

    Args:
        sampling: Any policy whose times do not hang on what is in the clip.
        end_s: Where the clip ends. None means not known yet, which policy `count` does not allow;
            the times then never stop.

    Raises:
        ValueError: Policy `count` without an end; a policy whose times the clip decides.
    """
    if sampling.policy == "count":
        if end_s is None:
            raise ValueError("policy 'count' needs the clip's end, got None")
        return ((k + 0.5) * end_s / sampling.count for k in range(sampling.count))
    if sampling.interval_s is None:
        raise ValueError(f"the times of {sampling} are in the clip")
    steps = itertools.count() if end_s is None else range(target_count(sampling, end_s))
    if sampling.policy == "keyframe":
        return (k * sampling.every_s for k in steps)
    return (k / sampling.rate for k in steps)


def target_count(sampling: Sampling, end_s: float) -> int:
    """How many times are asked for in a clip that ends at `end_s` seconds; at least 1.

    Raises:
        ValueError: A policy whose times the clip decides.
    """
    if sampling.policy == "count":
        return sampling.count
    if sampling.interval_s is None:
        raise ValueError(f"the times of {sampling} are in the clip")
    if sampling.policy == "keyframe":
        return max(1, math.ceil((end_s - _ROUNDING_S) / sampling.every_s))
    return max(1, math.ceil((end_s - _ROUNDING_S) * sampling.rate))


def stretches(sampling: Sampling, pts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where the stretch that each sampled frame stands for begins.

    Policy `count` samples the middle of a stretch, so it begins halfway from the frame before, the
    first at 0. The others sample the beginning of one, so it begins at the frame itself.

    Args:
        sampling: The policy.
        pts: float64 [N] seconds, ascending.

    Returns:
        float64 [N] seconds, ascending.
    """
    if sampling.policy != "count":
        return pts
    return np.concatenate([[0.0], (pts[:-1] + pts[1:]) / 2])[: len(pts)]


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


def chosen(
    sampling: Sampling,
    pts: npt.NDArray[np.float64],
    key: npt.NDArray[np.bool_],
    reference: npt.NDArray[np.bool_],
    end_s: float,
    slack_s: float,
) -> list[tuple[float, int]]:
    """The times asked for and the picture that serves each, when all pictures are known.

    Args:
        sampling: Any policy but `scene`.
        pts: float64 [N] seconds, ascending, of all pictures.
        key: bool [N], which of them are keyframes; the first is.
        reference: bool [N], which of them others refer to; read where the accuracy is not exact.
        end_s: Where the clip ends.
        slack_s: As for `on_display`.

    Returns:
        (seconds, index into `pts`) for each time asked for, both ascending.

    Raises:
        ValueError: Policy `scene`.
    """
    keys = np.flatnonzero(key)
    if sampling.policy == "keyframe" and not sampling.every_s:
        return [(float(pts[i]), int(i)) for i in keys]
    times = list(target_times(sampling, end_s))
    usable = (
        np.arange(len(pts)) if sampling.accuracy == "exact" else np.flatnonzero(key | reference)
    )
    if sampling.policy == "keyframe":
        usable = keys
    serving = usable[on_display(pts[usable], times, slack_s)]
    if sampling.policy == "keyframe+fill":
        shown = on_display(pts, times, slack_s)
        serving = np.where(key[shown], shown, serving)
        serving = _near_keys(sampling, pts, keys, times, serving, key)
    return [(time, int(i)) for time, i in zip(times, serving, strict=True)]


def _near_keys(
    sampling: Sampling,
    pts: npt.NDArray[np.float64],
    keys: npt.NDArray[np.intp],
    times: list[float],
    serving: npt.NDArray[np.intp],
    key: npt.NDArray[np.bool_],
) -> npt.NDArray[np.intp]:
    """`serving`, with the nearest keyframe within half an interval where none is on display."""
    asked = np.asarray(times)
    after = np.searchsorted(pts[keys], asked)
    before, after = np.maximum(after - 1, 0), np.minimum(after, len(keys) - 1)
    left, right = keys[before], keys[after]
    nearest = np.where(np.abs(pts[right] - asked) < np.abs(pts[left] - asked), right, left)
    near = np.abs(pts[nearest] - asked) <= 0.5 / sampling.rate
    return np.where(near & ~key[serving], nearest, serving)
