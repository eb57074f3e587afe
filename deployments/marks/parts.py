"""What a door needs for marks, as it is sent to the processes it is made of: names, no keys."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from deployments.marks.desk import DeskPlan, TraceDesk, desk_plan
from engines.mark_catalog import mark_recipe
from reelsight.engine import MarkRecipe
from reelsight.plan import ScanPlan, scan_plan
from reelsight.settings import Settings

__all__ = ["MarkParts", "mark_parts", "opened_desk"]


@dataclass(frozen=True, slots=True)
class MarkParts:
    """The extractor, and the desk where it is compared.

    Attributes:
        recipe: The extractor.
        plan: How marks are read.
        desk: What the desk is opened by.
    """

    recipe: MarkRecipe
    plan: ScanPlan
    desk: DeskPlan


def mark_parts(settings: Settings) -> MarkParts | None:
    """What settings amount to; None where no file of keys is named, without which nobody is told.

    Raises:
        ReelsightError: The pair does not resolve, or the settings of marks do not fit.
    """
    key_file = settings.marks.key_file
    if key_file is None:
        return None
    recipe = mark_recipe(settings)
    plan = scan_plan(recipe, settings)
    return MarkParts(recipe, plan, desk_plan(settings, key_file, plan.marks))


def opened_desk(parts: MarkParts, undo: ExitStack) -> TraceDesk:
    """The desk, in the process that answers; closed with `undo`.

    Raises:
        ConfigError: The file of the keys cannot be used here.
    """
    desk = TraceDesk(parts.desk)
    undo.callback(desk.close)
    return desk
