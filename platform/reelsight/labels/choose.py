"""Which bank a run uses: the one asked for, else the one that came with the model."""

from __future__ import annotations

from reelsight.engine.protocol import TextTower
from reelsight.engine.recipe import EngineRecipe
from reelsight.errors import BankError
from reelsight.labels.bank_file import BANK_SUFFIX, load_bank
from reelsight.labels.build import build_bank
from reelsight.labels.definition import BankDefinition, LabelDefinition
from reelsight.labels.shelf import BankShelf
from reelsight.nouns.label_bank import LabelBank

__all__ = ["choose_bank", "own_bank"]

_FAKE_LABELS = 16


def choose_bank(ref: str | None, shelf: BankShelf, recipe: EngineRecipe) -> LabelBank:
    """The bank to score against.

    Args:
        ref: A bank's name or file, or None for the model's own bank.
        shelf: Where released banks are.
        recipe: The engine that the bank must fit; the fake backend's own bank is made up here.

    Raises:
        BankError: There is no such bank, or it belongs to another model.
    """
    own = own_bank(recipe)
    if ref is not None and (own is None or ref != own.name):
        bank = shelf.find(ref, model_hash=recipe.spec.model_hash)
    elif own is not None:
        bank = own
    else:
        raise BankError(
            f"model {recipe.spec.model} came without a bank of its own",
            code="bank.missing",
            hint="Build one with `reelsight bank build labels.yaml` and name it with --bank.",
        )
    bank.require_model(recipe.spec.model, recipe.spec.model_hash)
    return bank


def own_bank(recipe: EngineRecipe) -> LabelBank | None:
    """The bank that came with the recipe's model, if one did."""
    if recipe.model is None:
        return _fake_bank(recipe.open_text())
    path = recipe.model.directory / f"labels{BANK_SUFFIX}"
    return load_bank(path) if path.is_file() else None


def _fake_bank(tower: TextTower) -> LabelBank:
    labels = tuple(LabelDefinition(name=f"fake_{i:02d}") for i in range(_FAKE_LABELS))
    definition = BankDefinition(name="fake", labels=labels)
    return build_bank(definition, tower, model="fake", logit_scale=10.0, default_threshold=0.2)
