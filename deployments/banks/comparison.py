"""What another bank would change: per label, over the same frames."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from deployments.banks.recent import FrameSample
from reelsight.nouns.label_bank import LabelBank
from reelsight.tagging import changes_of, confidences

__all__ = ["Comparison", "LabelChange", "compare"]

_CHUNK = 256


@dataclass(frozen=True, slots=True)
class LabelChange:
    """One label that is not the same in both banks.

    Attributes:
        name: The label.
        change: What became of it.
        frames_before: Frames that show it by the bank that is current.
        frames_after: Frames that show it by the other one.
        gained: Frames that show it only by the other one.
        lost: Frames that show it only by the current one.
        moved: Frames that show it by both, with confidences that differ by 0.05 or more.
        clips_gained: Clips with such frames only by the other one.
        clips_lost: Clips with such frames only by the current one.
    """

    name: str
    change: Literal["added", "removed", "changed"]
    frames_before: int
    frames_after: int
    gained: int
    lost: int
    moved: int
    clips_gained: int
    clips_lost: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two banks over a sample.

    Attributes:
        frames: Frames looked at.
        clips: Clips that they are of.
        changes: Labels that differ, those with the most gained and lost frames first.
        unchanged: Labels that are the same, and so are their frames.
    """

    frames: int
    clips: int
    changes: tuple[LabelChange, ...]
    unchanged: int


def compare(before: LabelBank, after: LabelBank, sample: FrameSample) -> Comparison:
    """Score a sample by both banks, where they differ; blocks for as long as that takes.

    Args:
        before: The bank that is current.
        after: The other one, of the same model.
        sample: Frames.
    """
    old, new = _rows(before), _rows(after)
    same = {
        name
        for name in old.keys() & new.keys()
        if _same(before, old[name], after, new[name]) and before.logit_scale == after.logit_scale
    }
    old_scores = _scores(before, old.keys() - same, sample)
    new_scores = _scores(after, new.keys() - same, sample)
    none = np.zeros(len(sample.clips))
    changes = [
        _change(
            name,
            "changed" if name in old and name in new else "added" if name in new else "removed",
            old_scores.get(name, none),
            new_scores.get(name, none),
            sample.clips,
        )
        for name in sorted(old_scores.keys() | new_scores.keys())
    ]
    changes.sort(key=lambda c: -(c.gained + c.lost))
    clips = len(np.unique(sample.clips))
    return Comparison(len(sample.clips), clips, tuple(changes), len(same))


def _rows(bank: LabelBank) -> dict[str, int]:
    return {label.name: i for i, label in enumerate(bank.labels)}


def _same(before: LabelBank, i: int, after: LabelBank, j: int) -> bool:
    thresholds = before.labels[i].threshold, after.labels[j].threshold
    return thresholds[0] == thresholds[1] and bool((before.matrix[i] == after.matrix[j]).all())


def _scores(
    bank: LabelBank, names: Iterable[str], sample: FrameSample
) -> dict[str, npt.NDArray[np.float64]]:
    """Confidences float64 [N] of some labels, by the function that tags."""
    wanted = set(names)
    rows = [i for i, label in enumerate(bank.labels) if label.name in wanted]
    if not rows:
        return {}
    part = bank.part(rows)
    # In pieces, so that the confidences of many frames and labels are never wide float64 at once.
    pieces = [
        confidences(sample.embeddings[at : at + _CHUNK], part).astype(np.float64)
        for at in range(0, len(sample.clips), _CHUNK)
    ]
    scores = np.concatenate(pieces) if pieces else np.zeros((0, len(rows)))
    return {label.name: scores[:, k] for k, label in enumerate(part.labels)}


def _change(
    name: str,
    change: Literal["added", "removed", "changed"],
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    clips: npt.NDArray[np.int64],
) -> LabelChange:
    was, is_ = before >= 0.5, after >= 0.5
    clips_before, clips_after = set(clips[was].tolist()), set(clips[is_].tolist())
    frames = changes_of(was, is_, np.abs(after - before))
    return LabelChange(
        name=name,
        change=change,
        frames_before=frames.before,
        frames_after=frames.after,
        gained=frames.gained,
        lost=frames.lost,
        moved=frames.moved,
        clips_gained=len(clips_after - clips_before),
        clips_lost=len(clips_before - clips_after),
    )
