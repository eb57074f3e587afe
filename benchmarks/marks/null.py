"""How often innocent codes reach what the bound calls unlikely; whole traces of nobody's copy."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.marks.outputs import FAMILIES, Soft, correlated_frames
from reelsight.marks.bound import chernoff_log10_many
from reelsight.marks.candidates import best_fits, windows_of
from reelsight.marks.codeword import code_function
from reelsight.marks.keys import TenantKey
from reelsight.marks.match import CodeTable, scores
from reelsight.marks.policy import Marking
from reelsight.marks.pool import pool
from reelsight.nouns.mark import Identity
from reelsight.nouns.mark_trace import Trials

__all__ = ["codes_of_nobody", "matching_time", "null_tails", "null_traces", "statistic_at"]

LEVELS = (-1, -2, -3, -4, -5)


def codes_of_nobody(count: int, bits: int = 64) -> npt.NDArray[np.uint8]:
    """uint8 [bits / 8, count]: codes of the project's own function under a fixed key."""
    derive = code_function(TenantKey(bytes(range(32))), bits)
    data = b"".join(derive(Identity("asset", f"recipient-{i}")) for i in range(count))
    return np.ascontiguousarray(np.frombuffer(data, dtype=np.uint8).reshape(count, -1).T)


def statistic_at(soft: Soft, log10_p: float) -> float:
    """The smallest T, to rounding, whose bound is at most 10^log10_p; inf where none is."""
    low, high = 0.0, float(np.abs(soft).sum())
    if chernoff_log10_many(soft[None], np.array([high]))[0] > log10_p:
        return float("inf")
    for _ in range(50):
        middle = (low + high) / 2
        reached = chernoff_log10_many(soft[None], np.array([middle]))[0] <= log10_p
        low, high = (low, middle) if reached else (middle, high)
    return high


def null_tails(codes: npt.NDArray[np.uint8], suspects: int, seed: int) -> list[dict[str, Any]]:
    """For every family and level: how many codes reached it, of how many."""
    rng = np.random.default_rng(seed)
    found = []
    for name, draw in FAMILIES.items():
        reached = dict.fromkeys(LEVELS, 0)
        compared = dict.fromkeys(LEVELS, 0)
        lowest = 0.0
        for _ in range(suspects):
            soft = draw(rng)
            statistic = scores(codes, soft)
            lowest = min(lowest, chernoff_log10_many(soft[None], statistic.max(keepdims=True))[0])
            for level in LEVELS:
                reached[level] += int(np.count_nonzero(statistic >= statistic_at(soft, level)))
                compared[level] += codes.shape[1]
        found.append(
            {
                "family": name,
                "lowest_log10_bound": round(float(lowest), 2),
                "levels": [
                    {
                        "log10_bound": level,
                        "codes": compared[level],
                        "reached": reached[level],
                        "observed_over_bound": reached[level] / compared[level] / 10.0**level,
                    }
                    for level in LEVELS
                ],
            }
        )
    return found


def null_traces(codes: npt.NDArray[np.uint8], traces: int, seed: int) -> dict[str, Any]:
    """Whole traces of unmarked footage: all windows, all rows, two views; how many name anybody."""
    marking = Marking()
    rng = np.random.default_rng(seed)
    rows = codes.shape[1]
    table = CodeTable(64, "", codes, np.arange(rows), {})
    lowest, below = 0.0, {"1e-1": 0, "1e-2": 0, "1e-3": 0, "1e-6": 0}
    windows = 0
    for _ in range(traces):
        pooled = [pool(correlated_frames(rng, 40), marking) for _ in range(2)]
        trials = Trials(rows, attempts=2, windows=2 * len(pooled[0].sums) - 1)
        windows = trials.windows
        fits = [
            fit
            for number, one in enumerate(pooled)
            for _, kept in windows_of(number, one, table, trials)
            for fit in kept
        ]
        best = best_fits(fits)[0].log10_p_adjusted
        lowest = min(lowest, best)
        for name in below:
            below[name] += best <= np.log10(float(name))
    return {
        "traces": traces,
        "rows": rows,
        "windows": windows,
        "views": 2,
        "at_or_below": {name: int(n) for name, n in below.items()},
        "lowest_log10_p_adjusted": round(float(lowest), 2),
    }


def matching_time(codes: npt.NDArray[np.uint8], repeats: int) -> dict[str, Any]:
    """Seconds to compare one soft vector with every code, by the clock and of the processor."""
    soft = np.random.default_rng(1).standard_normal(8 * len(codes))
    taken, worked = [], []
    for _ in range(repeats):
        started, before = time.perf_counter(), time.process_time()
        scores(codes, soft)
        taken.append(time.perf_counter() - started)
        worked.append(time.process_time() - before)
    return {
        "rows": codes.shape[1],
        "bits": 8 * len(codes),
        "median_s": round(float(np.median(taken)), 4),
        "slowest_s": round(max(taken), 4),
        "median_cpu_s": round(float(np.median(worked)), 4),
        "load": round(os.getloadavg()[0], 1),
    }
