"""Probabilities in words: rounded so that nothing is made to look rarer than was shown."""

from __future__ import annotations

import math

__all__ = ["odds"]


def odds(log10_p: float) -> str:
    """At most once in how many times, with one digit.

    Args:
        log10_p: log10 of a bound on a probability, <= 0.
    """
    if log10_p > -0.302:
        return "every other time or more often"
    power = math.floor(-log10_p + 1e-9)
    if power >= 19:
        return f"at most once in 10^{power} times"
    digit = math.floor(10 ** (-log10_p - power) + 1e-9)
    return f"at most once in {digit * 10**power:,} times"
