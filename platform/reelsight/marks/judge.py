"""Judging: from adjusted p-values to a verdict and the sentence that goes with it.

It does not compute p-values and does not know how they came about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reelsight.marks.policy import Marking
from reelsight.marks.wording import odds
from reelsight.nouns.mark_trace import Power, Verdict

__all__ = ["Standing", "Weighed", "judge"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One copy before the judge.

    Attributes:
        recipient: Who got it.
        log10_p_adjusted: Of its best window.
        span: Begin and end of that window, seconds.
    """

    recipient: str
    log10_p_adjusted: float
    span: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the judge goes by.

    Attributes:
        standings: Copies, the best first.
        pair: The two copies that fit best together in one window; None where there are none.
        joint_log10_p_adjusted: That both of them fit by chance; None without a pair.
        frames: Frames that were used.
        presence: Pooled presence score.
        power: What could have been found.
    """

    standings: Sequence[Standing]
    pair: tuple[Standing, Standing] | None
    joint_log10_p_adjusted: float | None
    frames: int
    presence: float
    power: Power


def judge(weighed: Weighed, marking: Marking) -> tuple[Verdict, str]:
    """The verdict and its sentence.

    Args:
        weighed: What was found.
        marking: The limits.
    """
    sure = _best_of_each(weighed.standings, math.log10(marking.identified))
    likely = _best_of_each(weighed.standings, math.log10(marking.probable))
    if len(sure) > 1:
        return "MULTIPLE", _multiple(sure)
    if sure:
        return "IDENTIFIED", _identified(sure[0], likely)
    joint = weighed.joint_log10_p_adjusted
    if weighed.pair and joint is not None and joint <= math.log10(marking.identified):
        return "MULTIPLE", _joint(weighed.pair, joint)
    if likely:
        return "PROBABLE", (
            f"The picture fits the copy of {likely[0].recipient}, but not beyond the limit for "
            f"naming anybody: by chance {odds(likely[0].log10_p_adjusted)}. A person has to look, "
            "and more of the video should be traced."
        )
    if not weighed.frames or weighed.power.detectable_error is None:
        return "INSUFFICIENT", (
            f"{weighed.frames} usable frames and {weighed.power.bits} bits are too little: not "
            "even a perfect copy could have been named. This says nothing about the video."
        )
    if weighed.presence >= marking.presence:
        return "MARKED_UNKNOWN", (
            "The extractor believes that the video is marked, and no copy in the ledger fits: the "
            "mark may be another party's, or of a copy that was not compared. The belief is a "
            f"hint and no evidence. {_power(weighed.power)}"
        )
    return "NO_EVIDENCE", (
        f"No copy in the ledger fits. That does not show that the video is no copy. "
        f"{_power(weighed.power)}"
    )


def _best_of_each(standings: Sequence[Standing], limit: float) -> list[Standing]:
    """The best standing of each recipient, at or below a limit."""
    best: dict[str, Standing] = {}
    for standing in standings:
        if standing.log10_p_adjusted <= limit:
            best.setdefault(standing.recipient, standing)
    return list(best.values())


def _identified(first: Standing, likely: Sequence[Standing]) -> str:
    text = (
        f"The picture carries the mark of the copy of {first.recipient}. If the video had been "
        f"made without that copy, so good a fit would come about by "
        f"chance {odds(first.log10_p_adjusted)}."
    )
    others = [s.recipient for s in likely[1:]]
    if others:
        text += f" A person has to look at {_names(others)} too, who fit less surely."
    return text


def _multiple(sure: Sequence[Standing]) -> str:
    apart = all(
        a.span[1] <= b.span[0] or b.span[1] <= a.span[0]
        for i, a in enumerate(sure)
        for b in sure[i + 1 :]
    )
    how = (
        "in different parts of the video, as when copies are cut together"
        if apart
        else "in the same part of the video, as when copies are mixed"
    )
    worst = max(s.log10_p_adjusted for s in sure)
    return (
        f"The picture carries the marks of several copies, {how}: of "
        f"{_names([s.recipient for s in sure])}. Each of them fits by itself so well as would "
        f"come about by chance {odds(worst)}."
    )


def _joint(pair: tuple[Standing, Standing], joint: float) -> str:
    each = "; ".join(f"{s.recipient} {odds(s.log10_p_adjusted)}" for s in pair)
    return (
        f"The picture fits the copies of {_names([s.recipient for s in pair])} at once, as when "
        f"two copies are averaged. That both fit so well with neither in it would come about "
        f"{odds(joint)}: at least one of the two is in it. Of either alone that is not shown (by "
        f"chance: {each}), and a person has to look."
    )


def _power(power: Power) -> str:
    if power.detectable_error is None:
        return "No copy could have been named."
    return (
        "A copy would have been named with a probability of 95 % or more if at most "
        f"{power.detectable_error:.1%} of its pooled bits were wrong."
    )


def _names(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
