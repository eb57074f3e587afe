"""Pooling: from soft bits of frames to sums over segments of the timeline.

Whatever is done here looks at the suspect alone, never at a code, so no bound is harmed: a bad
choice of weights costs power. Frames are weighed, outliers are limited, sums are kept by segment
because a splice shows only there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelsight.errors import MarkError
from reelsight.marks.policy import Marking
from reelsight.nouns.mark import SoftBits

__all__ = ["Pooled", "pool"]

# Rotating pads: a day of segments of ten seconds. Times of a suspect are whatever its file says.
_MOST_ROTATING = 8640


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """Sums over segments.

    Attributes:
        edges: float64 [G + 1], where segments begin and the last one ends, seconds.
        sums: float64 [G, n], weighted sum of the limited soft bits of each segment's frames.
        weights: float64 [F], weight of each frame, mean 1 over the frames that count.
        limited: float64 [F, n], the soft bits as they were summed, before weights.
        used: Frames of a weight above 0.
        presence: Weighted mean of the presence scores, 0..1; 0 without frames.
    """

    edges: npt.NDArray[np.float64]
    sums: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    limited: npt.NDArray[np.float64]
    used: int
    presence: float

    @property
    def total(self) -> npt.NDArray[np.float64]:
        """float64 [n], the sum over the whole timeline."""
        return np.asarray(self.sums.sum(axis=0))


def pool(
    frames: SoftBits,
    marking: Marking,
    *,
    null_mean: npt.NDArray[np.float64] | None = None,
    segment_s: float | None = None,
) -> Pooled:
    """Sum soft bits by segment.

    Args:
        frames: Of one view.
        marking: `segment_s`, `max_segments` and `clip_at`.
        null_mean: float64 [n], mean soft bits on unmarked footage, taken off each frame.
        segment_s: Length of the segments of a rotating pad, which begin at time 0 of the asset;
            None cuts the suspect's own timeline as `marking` says.

    Raises:
        MarkError: `mark.null_mean`, the calibration is for another length of code; `mark.too_long`,
            a rotating pad would have more segments than can be compared.
    """
    soft = frames.soft.astype(np.float64)
    if null_mean is not None:
        if null_mean.shape != (frames.bits,):
            raise MarkError(
                f"calibration of {null_mean.shape} for {frames.bits} bits", code="mark.null_mean"
            )
        soft = soft - null_mean
    middle = float(np.median(np.abs(soft))) if soft.size else 0.0
    limit = marking.clip_at * middle if middle > 0 else np.inf
    soft = np.clip(soft, -limit, limit)
    weights = frames.quality.astype(np.float64)
    used = int(np.count_nonzero(weights))
    if used:
        weights = weights / weights.sum() * used
    edges = _edges(frames.pts, marking, segment_s)
    place = np.clip(np.searchsorted(edges, frames.pts, side="right") - 1, 0, len(edges) - 2)
    sums = np.zeros((len(edges) - 1, frames.bits))
    np.add.at(sums, place, soft * weights[:, None])
    presence = float(np.average(frames.presence, weights=weights)) if used else 0.0
    return Pooled(edges, sums, weights, soft, used, presence)


def _edges(
    pts: npt.NDArray[np.float64], marking: Marking, rotating_s: float | None
) -> npt.NDArray[np.float64]:
    if not len(pts):
        return np.array([0.0, 0.0])
    if rotating_s is not None:
        last = max(float(pts[-1]), 0.0) / rotating_s
        if last >= _MOST_ROTATING:
            raise MarkError(
                f"times go up to {float(pts[-1]):.6g} s, {_MOST_ROTATING * rotating_s:g} s of a "
                "rotating pad can be compared",
                code="mark.too_long",
                hint="Trace the suspect in parts, and count them by `tried_before`.",
            )
        count = math.floor(last) + 1
        return np.linspace(0.0, count * rotating_s, count + 1)
    start, span = float(pts[0]), float(pts[-1] - pts[0])
    count = min(max(math.ceil(span / marking.segment_s), 1), marking.max_segments)
    length = max(marking.segment_s, span / count)
    edges = np.linspace(start, start + count * length, count + 1)
    edges[-1] = max(edges[-1], float(pts[-1]))
    return edges
