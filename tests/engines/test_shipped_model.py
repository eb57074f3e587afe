"""What is shipped must belong together, and stay within what was promised of it."""

from __future__ import annotations

import numpy as np

import reelsight.models
from engines.runtimes.ort_cpu import OrtTextTower
from reelsight.labels import BANK_SUFFIX, BankDefinition, build_bank, load_bank
from reelsight.nouns.model import Model
from reelsight.samples.vocabulary import names


def test_the_towers_are_small_and_undamaged() -> None:
    model = Model.load(reelsight.models.MINI)
    model.verify()
    assert model.image.stat().st_size + model.text.stat().st_size <= 20 * 1024 * 1024
    assert (reelsight.models.MINI / "MODEL_CARD.md").is_file()


def test_the_bank_is_what_its_definition_builds() -> None:
    model = Model.load(reelsight.models.MINI)
    shipped = load_bank(reelsight.models.MINI / f"labels{BANK_SUFFIX}")
    built = build_bank(
        BankDefinition.load(reelsight.models.MINI / "labels.yaml"),
        OrtTextTower(model),
        model=model.name,
        logit_scale=model.logit_scale,
        default_threshold=model.default_threshold,
    )
    assert shipped.document() == built.document()
    # Another processor may sum in another order; a cosine moves by far less than a threshold's
    # step.
    assert np.allclose(shipped.matrix, built.matrix, atol=1e-4)


def test_every_label_of_the_vocabulary_is_in_the_bank_in_two_languages() -> None:
    shipped = load_bank(reelsight.models.MINI / f"labels{BANK_SUFFIX}")
    assert {label.name for label in shipped.labels} == set(names())
    assert len(shipped) >= 40
    assert all(label.aliases["en"] and label.aliases["zh"] for label in shipped.labels)
