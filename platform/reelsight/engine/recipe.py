"""EngineRecipe: how to open an engine and its text tower, before either is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reelsight.engine.protocol import Engine, TextTower
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.mark import Carrier
from reelsight.nouns.model import Model

__all__ = ["EngineRecipe", "MarkRecipe"]


@dataclass(frozen=True, slots=True)
class EngineRecipe:
    """What the catalogue makes of a model's name and a backend.

    Attributes:
        spec: What the engine will be.
        open_engine: Makes the engine; picklable, called where the device is.
        open_text: Makes the text tower of the same model.
        logit_scale: The model's scale, for confidences.
        default_threshold: Cosine threshold of labels that name none.
        model: The model's files; None for the fake backend.
    """

    spec: EngineSpec
    open_engine: Callable[[], Engine]
    open_text: Callable[[], TextTower]
    logit_scale: float
    default_threshold: float
    model: Model | None


@dataclass(frozen=True, slots=True)
class MarkRecipe:
    """What the catalogue makes of a pair: how to open its extractor.

    Attributes:
        spec: What the engine will be.
        open_engine: Makes the engine; picklable, called where the device is.
        carrier: What a ledger calls the pair.
    """

    spec: EngineSpec
    open_engine: Callable[[], Engine]
    carrier: Carrier
