"""From a definition to a bank: embed the phrases, average them, fix the thresholds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelsight.engine.protocol import TextTower
from reelsight.engine.recipe import EngineRecipe
from reelsight.errors import BankError
from reelsight.labels.definition import BankDefinition
from reelsight.nouns.label_bank import Label, LabelBank

__all__ = ["build_bank", "build_bank_for"]


def build_bank(
    definition: BankDefinition,
    tower: TextTower,
    *,
    model: str,
    logit_scale: float,
    default_threshold: float,
) -> LabelBank:
    """Embed every label of a definition.

    A label's vector is the renormalised mean of its normalised phrase embeddings (prompt
    ensembling, as in the CLIP paper, section 3.1.4), over every template x prompt.

    Args:
        definition: What to embed.
        tower: The model's text tower.
        model: The model's name, for people.
        logit_scale: The model's logit scale.
        default_threshold: Cosine threshold of labels that name none.

    Raises:
        BankError: A label's phrases cancel out.
    """
    rows = [_vector(definition, prompts.phrases, tower) for prompts in definition.labels]
    labels = tuple(
        Label(
            name=item.name,
            prompts=item.phrases,
            threshold=default_threshold if item.threshold is None else item.threshold,
            aliases=item.aliases,
            critical=item.critical,
        )
        for item in definition.labels
    )
    return LabelBank(
        name=definition.name,
        model=model,
        model_hash=tower.model_hash,
        logit_scale=logit_scale,
        labels=labels,
        matrix=np.stack(rows),
    )


def build_bank_for(
    recipe: EngineRecipe, definition: BankDefinition, tower: TextTower | None = None
) -> LabelBank:
    """Embed every label of a definition for the model of a recipe.

    Args:
        recipe: Says the model, its scale and its default threshold.
        definition: What to embed.
        tower: The model's text tower, where it is open already; else the recipe's is opened.

    Raises:
        BankError: A label's phrases cancel out.
    """
    return build_bank(
        definition,
        tower or recipe.open_text(),
        model=recipe.spec.model,
        logit_scale=recipe.logit_scale,
        default_threshold=recipe.default_threshold,
    )


def _vector(
    definition: BankDefinition, phrases: tuple[str, ...], tower: TextTower
) -> npt.NDArray[np.float32]:
    texts = [t.replace("{}", p) for p in phrases for t in definition.templates]
    mean = tower.embed_text(texts).mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise BankError(f"the phrases {phrases!r} cancel out", code="bank.degenerate")
    unit: npt.NDArray[np.float32] = (mean / length).astype(np.float32)
    return unit
