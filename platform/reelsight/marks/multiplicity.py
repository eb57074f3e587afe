"""How many tests a verdict is the best of, and what that does to its p-value.

The best of M matches looks M times less surprising than it is. Every test that was made, or could
have been taken instead, is counted here: by rows, attempts (views times extractors), windows of the
timeline, looks at a live stream, and suspects that were looked at together. Bonferroni throughout:
no independence is assumed.
"""

from __future__ import annotations

import math
from dataclasses import replace

from reelsight.nouns.mark_trace import Trials

__all__ = ["adjusted_log10", "joint_pair_log10", "look_share", "penalty_log10", "window_share"]


def look_share(look: int) -> float:
    """Part of alpha that look k (from 1) at a stream may spend: 6 / (pi^2 k^2), in sum 1.

    Raises:
        ValueError: look is not positive.
    """
    if look < 1:
        raise ValueError(f"looks count from 1, got {look!r}")
    return 6 / (math.pi**2 * look**2)


def window_share(windows: int, *, whole: bool) -> float:
    """Part of alpha that one window of the timeline may spend.

    The whole clip has half; the other windows share the rest equally. A clip of one window has all.

    Args:
        windows: Windows in all, the whole clip among them.
        whole: Whether this window is the whole clip.
    """
    if windows == 1:
        return 1.0
    return 0.5 if whole else 0.5 / (windows - 1)


def adjusted_log10(log10_p: float, trials: Trials, *, whole: bool = True) -> float:
    """log10 of min(1, p * rows * attempts * suspects / (share of the window * of the look)).

    Args:
        log10_p: Of one row in one window of one attempt.
        trials: What was tried.
        whole: Whether the window is the whole clip.
    """
    return min(0.0, log10_p + penalty_log10(trials, whole=whole))


def penalty_log10(trials: Trials, *, whole: bool) -> float:
    """log10 of what a p-value is multiplied by; see `adjusted_log10`."""
    tried = max(trials.rows, 1) * (trials.attempts + trials.tried_before) * trials.suspects
    share = window_share(trials.windows, whole=whole)
    if trials.look:
        share *= look_share(trials.look)
    return math.log10(tried) - math.log10(share)


def joint_pair_log10(log10_weaker: float, trials: Trials, *, whole: bool = True) -> float:
    """log10 of the adjusted p that two given rows both match so well when both are innocent.

    Codes of two rows are independent, so both lie beyond the weaker of their matches with its
    probability squared; there are rows * (rows - 1) / 2 pairs. Small means: at least one of the two
    is in the picture. Of either by itself it says nothing.
    """
    pairs = max(trials.rows * (trials.rows - 1) // 2, 1)
    one = replace(trials, rows=1)
    return min(0.0, 2 * log10_weaker + penalty_log10(one, whole=whole) + math.log10(pairs))
