"""What a job does to each clip: tags it, reads its marks, or both from one decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reelsight.settings import Settings

if TYPE_CHECKING:  # Ray takes a second to import; `--help` should not.
    from ray.data import Dataset

    from reelsight.engine import EngineRecipe, MarkRecipe
    from reelsight.plan import ScanPlan, TaggingPlan
    from reelsight.rayx.cluster import Widths
    from reelsight.rayx.source import ShardSource

__all__ = ["Marks", "Scan", "Tagging", "marks_of", "planned"]

Marks = Literal["no", "beside", "alone"]


@dataclass(frozen=True, slots=True)
class Tagging:
    """Tags, and marks where the plan has them.

    Attributes:
        plan: What is done to a clip.
        recipe: The engine of the tags.
        reader: The extractor, where marks are read.
    """

    plan: TaggingPlan
    recipe: EngineRecipe
    reader: MarkRecipe | None

    def dataset(self, source: ShardSource, settings: Settings, widths: Widths) -> Dataset:
        """As `reelsight.rayx.dataset.tag_dataset`."""
        from reelsight.rayx.dataset import tag_dataset

        return tag_dataset(source, self.plan, self.recipe, settings, widths, self.reader)


@dataclass(frozen=True, slots=True)
class Scan:
    """Marks alone.

    Attributes:
        plan: What is done to a clip.
        reader: The extractor.
    """

    plan: ScanPlan
    reader: MarkRecipe

    def dataset(self, source: ShardSource, settings: Settings, widths: Widths) -> Dataset:
        """As `reelsight.rayx.dataset.scan_dataset`."""
        from reelsight.rayx.dataset import scan_dataset

        return scan_dataset(source, self.plan, self.reader, settings, widths)


def planned(settings: Settings, marks: Marks) -> Tagging | Scan:
    """The work that settings amount to.

    Args:
        settings: All of it.
        marks: Whether marks are read: `beside` the tags, or `alone`.

    Raises:
        ReelsightError: A model, its engine, the bank or the pair does not resolve.
    """
    from engines.catalog import recipe_for
    from engines.mark_catalog import mark_recipe
    from reelsight.plan import plan_for, scan_plan

    if marks == "alone":
        reader = mark_recipe(settings)
        return Scan(scan_plan(reader, settings), reader)
    beside = mark_recipe(settings) if marks == "beside" else None
    recipe = recipe_for(settings)
    return Tagging(plan_for(recipe, settings, beside), recipe, beside)


def marks_of(decided: Mapping[str, Any]) -> Marks:
    """Whether a run read marks, by what decided its Reports."""
    told: Marks = decided.get("marks", "no")
    return told
