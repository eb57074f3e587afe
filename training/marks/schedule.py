"""Where a run stands: which stage, how far in it, and what follows from that.

Progress is the share of the whole training that is spent, in seconds or, for runs that must repeat
exactly, in steps. A stage that reached its aim early, or needs longer, moves its end; the stages
after it share what is left in their old proportions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from training.marks.recipe import Recipe, Stage

__all__ = ["Place", "Schedule"]

_LAST_RATE = 0.005


@dataclass(frozen=True)
class Place:
    """A moment of the schedule.

    Attributes:
        index: Of the stage.
        stage: The stage.
        within: Share of the stage that is over, 0 to 1.
        overall: Share of the training that is over, 0 to 1.
    """

    index: int
    stage: Stage
    within: float
    overall: float

    def between(self, ends: tuple[float, float]) -> float:
        """A value that moves linearly over the stage."""
        return ends[0] + (ends[1] - ends[0]) * self.within


class Schedule:
    """The stages over a budget.

    Args:
        recipe: Its stages.
        budget: Whole training, in seconds or steps.
    """

    def __init__(self, recipe: Recipe, budget: float) -> None:
        self.recipe, self.budget = recipe, budget
        self.ends: list[float] = []
        total = 0.0
        for stage in recipe.stages:
            total += stage.share
            self.ends.append(total)
        self.ends[-1] = 1.0

    def place(self, spent: float, at_least: int = 0) -> Place:
        """The moment after `spent` of the budget, in no stage before `at_least`."""
        overall = min(1.0, spent / self.budget)
        index = at_least
        while index < len(self.ends) - 1 and overall >= self.ends[index]:
            index += 1
        start = self.ends[index - 1] if index else 0.0
        length = max(1e-9, self.ends[index] - start)
        within = min(1.0, max(0.0, (overall - start) / length))
        return Place(index, self.recipe.stages[index], within, overall)

    def move_end(self, index: int, end: float) -> None:
        """Let a stage end at another share of the training; later stages share the rest."""
        old_end, last = self.ends[index], self.ends[-1]
        end = min(end, 0.98)
        scale = (last - end) / max(1e-9, last - old_end)
        self.ends[index + 1 :] = [last - (last - e) * scale for e in self.ends[index + 1 :]]
        self.ends[index] = end

    def rate(self, place: Place, step: int) -> float:
        """Learning rate: a linear warm-up, then half a cosine over the whole training."""
        warm = min(1.0, (step + 1) / self.recipe.warm)
        fall = (1 + math.cos(math.pi * place.overall)) / 2
        return self.recipe.rate * warm * (_LAST_RATE + (1 - _LAST_RATE) * fall)
