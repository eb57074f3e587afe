"""How unlikely a match is when the recipient is innocent: bounds that hold for any extractor.

Let s be soft bits that were made without the codeword c of an innocent recipient. c is uniform
given s, so T = sum_i s_i c_i is a sum of independent +-s_i, and for every lambda > 0 (Chernoff)

    P(T >= t) <= exp(-lambda t + sum_i ln cosh(lambda s_i)).

Nothing is assumed of s: it may be biased, correlated over bits and frames, or made by a poor model.
Every lambda gives a true bound, so a search that stops early loses power and never honesty.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = [
    "binomial_log10_tail",
    "binomial_logs",
    "chernoff_log10",
    "chernoff_log10_many",
    "hard_mismatches",
    "largest_distance",
]

_LN10 = math.log(10.0)
# Rounding of the exponent, in nats: given away, so that the bound stays one in floating point.
_SLACK = 1e-6
# Rounding of a statistic, as a share of the largest that there could be: given away too.
_TIE = 1e-12


def chernoff_log10(soft: npt.ArrayLike, t: float) -> float:
    """log10 of the bound on P(T >= t), minimised over lambda.

    Args:
        soft: [n], pooled soft bits.
        t: The statistic that was seen.

    Returns:
        <= 0; 0 for t <= 0. For a match in every bit it is log10 2^-k for the k bits that are not 0,
        or so small that a sum of all would not show them; that is the exact probability.
    """
    row = np.asarray(soft, dtype=np.float64).reshape(1, -1)
    return float(chernoff_log10_many(row, np.array([t]))[0])


def chernoff_log10_many(
    soft: npt.NDArray[np.float64], t: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """`chernoff_log10` for several pairs of soft bits and statistic.

    Args:
        soft: float64 [M, n], or [1, n] for the same soft bits throughout.
        t: float64 [M].

    Returns:
        float64 [M].
    """
    size = np.abs(soft)
    largest = size.max(axis=1, keepdims=True, initial=0.0)
    size = size / np.where(largest > 0, largest, 1.0)
    seen = t / np.where(largest[:, 0] > 0, largest[:, 0], 1.0)
    total = size.sum(axis=1)
    # The exponent is convex; its slope, -t + sum s tanh(lambda s), is bisected in log lambda.
    low = np.full(len(t), -20.0)
    high = np.full(len(t), 20.0)
    for _ in range(60):
        middle = (low + high) / 2
        angle = np.exp(middle)[:, None] * size
        falls = (size * np.tanh(angle)).sum(axis=1) < seen
        low, high = np.where(falls, middle, low), np.where(falls, high, middle)
    rate = np.exp((low + high) / 2)
    angle = rate[:, None] * size
    seen = seen - _TIE * total
    # ln cosh x = x + ln(1 + exp(-2x)) - ln 2 for x >= 0, which does not overflow.
    cumulant = (angle + np.log1p(np.exp(-2 * angle)) - math.log(2)).sum(axis=1)
    exponent = cumulant - rate * seen + _SLACK
    # All bits agree: the probability itself, which the bound reaches as lambda grows without end.
    # A bit that is lost in the rounding of the sum may disagree, and is none that was seen to.
    whole = seen >= total * (1 - 3 * _TIE)
    agree = np.count_nonzero(size > 2 * _TIE * total[:, None], axis=1)
    exponent = np.where(whole, -agree * math.log(2), exponent)
    return np.where(seen > 0, np.minimum(exponent, 0.0), 0.0) / _LN10


def hard_mismatches(soft: npt.ArrayLike, signs: npt.ArrayLike) -> int:
    """In how many bits the signs of soft bits differ from a code; a soft bit of 0 reads as +1.

    Args:
        soft: [n].
        signs: [n], -1 and +1.
    """
    hard = np.where(np.asarray(soft) >= 0, 1, -1)
    return int(np.count_nonzero(hard != np.asarray(signs)))


@lru_cache(maxsize=4)
def binomial_logs(bits: int) -> npt.NDArray[np.float64]:
    """Ln C(n, j) for j = 0..n, float64 [n + 1]; the coefficients themselves outgrow floats."""
    j = np.arange(bits, dtype=np.float64)
    return np.concatenate([[0.0], np.cumsum(np.log((bits - j) / (j + 1)))])


def binomial_log10_tail(bits: int, mismatches: int) -> float:
    """log10 of P(at most that many mismatches) for a uniform code, sum C(n, j) / 2^n, to rounding.

    Raises:
        ValueError: mismatches is not in 0..bits.
    """
    if not 0 <= mismatches <= bits:
        raise ValueError(f"mismatches must be 0..{bits}, got {mismatches}")
    return float(_tails(bits)[mismatches])


def largest_distance(bits: int, log10_p: float) -> int | None:
    """The most mismatches whose tail is at most 10^log10_p; None where even 0 is too likely."""
    fits = int(np.searchsorted(_tails(bits), log10_p, side="right"))
    return fits - 1 if fits else None


@lru_cache(maxsize=4)
def _tails(bits: int) -> npt.NDArray[np.float64]:
    """`binomial_log10_tail` of 0..bits, float64 [bits + 1], ascending."""
    return (np.logaddexp.accumulate(binomial_logs(bits)) - bits * math.log(2)) / _LN10
