"""How often a marked copy is named: by bit error rate of a frame, and by frames that are pooled."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np

from reelsight.marks.bound import chernoff_log10_many
from reelsight.marks.multiplicity import penalty_log10
from reelsight.nouns.mark_trace import Trials

__all__ = ["FRAMES", "RATES", "power_curves", "statistics_of_frames"]

RATES = (0.05, 0.1, 0.2, 0.3, 0.4)
FRAMES = (1, 2, 4, 8, 16, 32, 64)


def statistics_of_frames(
    rng: np.random.Generator, rate: float, frames: int, bits: int, copies: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """log10 of the bound for marked copies: frames that are independent and Gaussian.

    Args:
        rng: Randomness.
        rate: Bit error rate of one frame.
        frames: Frames that are pooled.
        bits: Length of the code.
        copies: How many copies.

    Returns:
        float64 [copies], unadjusted.
    """
    # A frame's soft bit is its sign times 1 plus noise whose size gives the error rate.
    sigma = 1 / NormalDist().inv_cdf(1 - rate)
    soft = frames + np.sqrt(frames) * sigma * rng.standard_normal((copies, bits))
    return chernoff_log10_many(soft, soft.sum(axis=1))


def power_curves(copies: int, rows: int, identified: float, seed: int) -> list[dict[str, Any]]:
    """Share of marked copies that are named among `rows`, for 64 bits and one look at the whole."""
    rng = np.random.default_rng(seed)
    penalty = penalty_log10(Trials(rows), whole=True)
    found = []
    for rate in RATES:
        points = []
        for frames in FRAMES:
            logs = statistics_of_frames(rng, rate, frames, 64, copies)
            points.append(
                {
                    "frames": frames,
                    "named": float(np.mean(logs + penalty <= np.log10(identified))),
                    "median_log10_p": round(float(np.median(logs)), 2),
                }
            )
        found.append({"frame_error_rate": rate, "points": points})
    return found
