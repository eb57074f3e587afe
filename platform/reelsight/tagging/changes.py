"""What another bank changes of one label, in frames or in clips: gained, lost, moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["MOVED", "Changes", "changes_of"]

MOVED = 0.05


@dataclass(frozen=True, slots=True)
class Changes:
    """One label over the same frames, or the same clips, by two banks.

    Attributes:
        before: How many show it by the first.
        after: How many show it by the second.
        gained: How many show it only by the second.
        lost: How many show it only by the first.
        moved: How many show it by both, but differ by MOVED or more.
    """

    before: int = 0
    after: int = 0
    gained: int = 0
    lost: int = 0
    moved: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(
            self.before + other.before,
            self.after + other.after,
            self.gained + other.gained,
            self.lost + other.lost,
            self.moved + other.moved,
        )


def changes_of(
    before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], shift: npt.NDArray[np.float64]
) -> Changes:
    """Count what changed.

    Args:
        before: bool [N], who shows the label by the first bank.
        after: bool [N], who shows it by the second.
        shift: float64 [N], by how much they differ, 0..1; asked only of those that show it by both.
    """
    return Changes(
        before=int(before.sum()),
        after=int(after.sum()),
        gained=int((after & ~before).sum()),
        lost=int((before & ~after).sum()),
        moved=int((before & after & (shift >= MOVED)).sum()),
    )
