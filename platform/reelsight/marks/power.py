"""Power: how bad a marked copy may be and still be named. Exact, for the test on signs.

A verdict of no evidence is worth what the test could have found. The statement rests on the signs
of pooled bits, which needs no model of an extractor; soft bits do better than their signs.
"""

from __future__ import annotations

import math

import numpy as np

from reelsight.marks.bound import binomial_logs, largest_distance
from reelsight.marks.multiplicity import penalty_log10
from reelsight.nouns.mark_trace import Power, Trials

__all__ = ["chance_of_naming", "power_of"]

_RATES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
_WANTED = 0.95


def power_of(bits: int, trials: Trials, identified: float) -> Power:
    """What a trace could find in the whole clip.

    Args:
        bits: Bits compared there.
        trials: What is tried.
        identified: Adjusted p at or below which a copy is named.
    """
    needed = math.log10(identified) - penalty_log10(trials, whole=True)
    distance = largest_distance(bits, needed)
    table = tuple((rate, chance_of_naming(bits, distance, rate)) for rate in _RATES)
    return Power(bits, needed, _detectable(bits, distance), table)


def chance_of_naming(bits: int, distance: int | None, rate: float) -> float:
    """P(at most `distance` of `bits` are wrong) when each is wrong with probability `rate`.

    Args:
        bits: Bits compared.
        distance: The most mismatches that still name; None where nothing does.
        rate: Bit error rate, 0..1.
    """
    if distance is None:
        return 0.0
    if rate in (0.0, 1.0):
        return float(rate == 0 or distance == bits)
    wrong = np.arange(distance + 1)
    logs = binomial_logs(bits)[: distance + 1]
    logs = logs + wrong * math.log(rate) + (bits - wrong) * math.log1p(-rate)
    return min(float(np.exp(logs).sum()), 1.0)


def _detectable(bits: int, distance: int | None) -> float | None:
    if distance is None:
        return None
    low, high = 0.0, 0.5
    for _ in range(40):
        middle = (low + high) / 2
        reached = chance_of_naming(bits, distance, middle) >= _WANTED
        low, high = (middle, high) if reached else (low, middle)
    return round(low, 4)
