"""Scene cuts by brightness: how much of the picture changed between two decoded pictures.

A picture is looked at through a coarse grid of its luma samples. Each cell of the grid keeps a
histogram, so motion inside a cell changes little and another shot changes most cells. Nothing is
scaled and no colour is read. Deterministic: integers until one final division. It knows no clock.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from av import VideoFrame

__all__ = ["Signature", "change", "signature"]

Signature = npt.NDArray[np.int64]

_CELLS = 4
_LEVELS = 64
# Levels that one level is spread over, odd: a brightness that moves by less than these counts in
# part, so that noise at the border of a level is no change.
_SPREAD = 11
# Levels are narrower in the dark, where films hide whole scenes: 24 of 64 lie below luma 60.
_LEVEL_OF = np.rint(63 * (np.clip(np.arange(256) - 16, 0, 219) / 219) ** 0.6).astype(np.uint8)
# Samples on the shorter side, at least, of a picture that has them.
_SIDE = 48
_WHOLE = 4096


def signature(frame: VideoFrame) -> Signature:
    """What a picture looks like from far away.

    Args:
        frame: A format whose first plane is luma (or one colour), 8 to 16 bits a sample.

    Returns:
        int64 [16, 64] histograms of brightness, one a cell, spread over neighbouring levels; each
        row sums to 11 x 4096, within rounding down.
    """
    levels = _levels(frame)
    cells = _cells(*levels.shape)
    counts = np.bincount((cells + levels).ravel(), minlength=_CELLS * _CELLS * _LEVELS)
    grid = counts.reshape(-1, _LEVELS)
    shares = grid * _WHOLE // np.maximum(grid.sum(axis=1, keepdims=True), 1)
    sums = np.pad(shares, ((0, 0), (_SPREAD, _SPREAD - 1))).cumsum(axis=1)
    return np.asarray(sums[:, _SPREAD:] - sums[:, :-_SPREAD], np.int64)


def change(before: Signature, after: Signature) -> float:
    """Share of the picture, 0 to 1, whose brightness moved: half the L1 distance, mean of cells."""
    return float(np.abs(before - after).sum()) / (2 * _SPREAD * _WHOLE * len(before))


def _levels(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    """Levels, uint8 [h, w], of a grid of samples of the first plane."""
    plane, bits = frame.planes[0], frame.format.components[0].bits
    kind = np.dtype(np.uint16 if bits > 8 else np.uint8)
    stride = plane.line_size // kind.itemsize
    rows = np.frombuffer(memoryview(plane), kind)[: frame.height * stride]
    step = max(1, min(frame.height, frame.width) // _SIDE)
    picked = rows.reshape(frame.height, stride)[::step, : frame.width : step].astype(np.int64)
    return np.asarray(_LEVEL_OF[np.minimum(picked >> (bits - 8), 255)], np.uint8)


@lru_cache(maxsize=8)
def _cells(high: int, wide: int) -> npt.NDArray[np.int64]:
    """Where each sample's cell begins among the histograms, int64 [high, wide]."""
    rows, columns = np.arange(high) * _CELLS // high, np.arange(wide) * _CELLS // wide
    return np.asarray((rows[:, None] * _CELLS + columns[None, :]) * _LEVELS, np.int64)
