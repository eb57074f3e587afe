"""What a job does to each clip: tags it, reads its marks, or both from one decode."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from reelsight.settings import Settings

if TYPE_CHECKING:  # Ray takes a second to import; `--help` should not.
    from ray.data import Dataset

    from reelsight.engine import EngineRecipe, MarkRecipe
    from reelsight.plan import ScanPlan, TaggingPlan
    from reelsight.rayx.cluster import Widths
    from reelsight.store.manifest import Manifest

__all__ = ["Marks", "Scan", "Tagging", "planned"]

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

    def dataset(self, manifest: Manifest, settings: Settings, widths: Widths) -> Dataset:
        """As `reelsight.rayx.dataset.tag_dataset`."""
        from reelsight.rayx.dataset import tag_dataset

        return tag_dataset(manifest, self.plan, self.recipe, settings, widths, self.reader)

    def marks_config(self) -> dict[str, Any]:
        """What a run's record says of marks."""
        return {} if self.plan.marks is None else _config(self.plan)


@dataclass(frozen=True, slots=True)
class Scan:
    """Marks alone.

    Attributes:
        plan: What is done to a clip.
        reader: The extractor.
    """

    plan: ScanPlan
    reader: MarkRecipe

    def dataset(self, manifest: Manifest, settings: Settings, widths: Widths) -> Dataset:
        """As `reelsight.rayx.dataset.scan_dataset`."""
        from reelsight.rayx.dataset import scan_dataset

        return scan_dataset(manifest, self.plan, self.reader, settings, widths)

    def marks_config(self) -> dict[str, Any]:
        """What a run's record says of marks."""
        return _config(self.plan)


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


def _config(plan: TaggingPlan | ScanPlan) -> dict[str, Any]:
    """Codes that are issued from now on were drawn when the clips were known."""
    from reelsight.marks.times import utc_now

    if plan.marks is None:
        return {}
    told = {
        "carrier": asdict(plan.marks.carrier),
        "extractor_sha256": plan.marks.spec.onnx_sha256,
        "engine": plan.marks.engine,
        "policy": str(plan.marks.sampling),
        "search": plan.marks.search,
        "received_at": utc_now(),
    }
    return {"marks": told}
