"""TagDifference: two runs over the same clips, label by label and clip by clip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from reelsight.tagging.changes import MOVED, Changes, changes_of

__all__ = ["ClipChange", "LabelDifference", "TagDifference"]

# Score and coverage of every label that a clip shows.
Shown = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class LabelDifference:
    """One label, in clips.

    Attributes:
        label: Its name.
        in_bank: Whether the second run's bank has it.
        changes: What became of it. A clip has moved when it shows the label in both runs, and its
            score or its coverage differs by MOVED or more.
    """

    label: str
    in_bank: bool
    changes: Changes


@dataclass(frozen=True, slots=True)
class ClipChange:
    """One clip that is not tagged as it was.

    Attributes:
        clip_id: Which.
        gained: Labels that it shows only in the second run, by name.
        lost: Labels that it shows only in the first.
        moved: Labels that it shows in both, with another score or coverage.
    """

    clip_id: str
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    moved: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, int, str]:
        """The most changed clip comes first: labels gained and lost, then labels moved."""
        return -len(self.gained) - len(self.lost), -len(self.moved), self.clip_id


class TagDifference:
    """Summed up over parts of two runs; memory grows with labels, not with clips.

    Args:
        labels: Of the second run's bank; told of even where no clip shows them.
        keep: How many of the most changed clips to name.

    Attributes:
        clips: Clips that are tagged in both runs; all counts are of these.
        changed: Those of which a label was gained, lost or moved.
        apart: Clips that are tagged in one run only, and compared with nothing.
        most: The most changed clips, the most changed first.
    """

    def __init__(self, labels: Iterable[str], keep: int) -> None:
        self._labels = dict.fromkeys(labels, Changes())
        self._in_bank = frozenset(self._labels)
        self._keep = keep
        self.clips = 0
        self.changed = 0
        self.apart = 0
        self.most: list[ClipChange] = []

    @property
    def labels(self) -> list[LabelDifference]:
        """Every label, those with the most clips gained and lost first, then those moved."""
        found = [LabelDifference(n, n in self._in_bank, c) for n, c in self._labels.items()]
        return sorted(
            found, key=lambda d: (-d.changes.gained - d.changes.lost, -d.changes.moved, d.label)
        )

    def add(self, before: Mapping[str, Shown], after: Mapping[str, Shown]) -> None:
        """Count the clips of a part in.

        Args:
            before: What tagged clips show in the first run, by clip_id.
            after: The same of the second.
        """
        both = before.keys() & after.keys()
        self.clips += len(both)
        self.apart += len(before.keys() ^ after.keys())
        found: dict[str, list[tuple[bool, bool, float]]] = defaultdict(list)
        differing: list[ClipChange] = []
        for clip_id in both:
            old, new = before[clip_id], after[clip_id]
            shifts = {label: _shift(old[label], new[label]) for label in old.keys() & new.keys()}
            for label in old.keys() | new.keys():
                found[label].append((label in old, label in new, shifts.get(label, 0.0)))
            change = ClipChange(
                clip_id,
                tuple(sorted(new.keys() - old.keys())),
                tuple(sorted(old.keys() - new.keys())),
                tuple(sorted(label for label, shift in shifts.items() if shift >= MOVED)),
            )
            if change.gained or change.lost or change.moved:
                differing.append(change)
        for label, rows in found.items():
            was, is_, shift = (np.array(column) for column in zip(*rows, strict=True))
            self._labels[label] = self._labels.get(label, Changes()) + changes_of(was, is_, shift)
        self.changed += len(differing)
        self.most = sorted([*self.most, *differing], key=lambda c: c.rank)[: self._keep]


def _shift(old: tuple[float, float], new: tuple[float, float]) -> float:
    return max(abs(a - b) for a, b in zip(old, new, strict=True))
