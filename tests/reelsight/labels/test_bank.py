from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from reelsight.engine import EngineRecipe, FakeTextTower
from reelsight.errors import BankError
from reelsight.labels import (
    BankDefinition,
    BankShelf,
    LabelDefinition,
    build_bank,
    choose_bank,
    load_bank,
    save_bank,
)
from reelsight.nouns.label_bank import LabelBank

YAML = """
name: shop
templates: ["{}", "a frame of {}"]
labels:
  - name: price_tag
    prompts: [a price tag, a sticker with a price]
    threshold: 0.25
    aliases: {en: [price tag], zh: [价格标签]}
  - name: empty_shelf
"""


@pytest.fixture
def definition(tmp_path: Path) -> BankDefinition:
    path = tmp_path / "labels.yaml"
    path.write_text(YAML, encoding="utf-8")
    return BankDefinition.load(path)


@pytest.fixture
def bank(definition: BankDefinition) -> LabelBank:
    return build_bank(
        definition, FakeTextTower(), model="fake", logit_scale=10.0, default_threshold=0.2
    )


def test_a_label_is_the_renormalised_mean_of_its_phrases(bank: LabelBank) -> None:
    tower = FakeTextTower()
    phrases = [
        "a price tag",
        "a frame of a price tag",
        "a sticker with a price",
        "a frame of a sticker with a price",
    ]
    mean = tower.embed_text(phrases).mean(axis=0)
    assert np.allclose(bank.matrix[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert bank.labels[1].prompts == ("empty shelf",)
    assert bank.thresholds.tolist() == [0.25, np.float32(0.2)]


def test_a_bank_survives_the_disk_and_equal_banks_are_equal_files(
    bank: LabelBank, tmp_path: Path
) -> None:
    first, second = save_bank(bank, tmp_path / "a"), save_bank(bank, tmp_path / "b")
    loaded = load_bank(first)
    assert first.read_bytes() == second.read_bytes()
    assert loaded.hash == bank.hash
    assert loaded.labels == bank.labels
    assert loaded.labels[0].aliases["zh"] == ("价格标签",)
    assert loaded.matrix.tobytes() == bank.matrix.tobytes()


def test_the_matrix_cannot_be_changed(bank: LabelBank) -> None:
    with pytest.raises(ValueError, match="read-only"):
        bank.matrix[0, 0] = 1.0


@pytest.mark.parametrize("what", ["name", "threshold", "alias", "matrix"])
def test_any_change_changes_the_hash(bank: LabelBank, what: str) -> None:
    label = bank.labels[0]
    changed = {
        "name": lambda: replace(bank, name="other"),
        "threshold": lambda: replace(bank, labels=(replace(label, threshold=0.26), bank.labels[1])),
        "alias": lambda: replace(
            bank, labels=(replace(label, aliases={"en": ("tag",)}), bank.labels[1])
        ),
        "matrix": lambda: replace(bank, matrix=np.ascontiguousarray(bank.matrix[::-1])),
    }[what]()
    assert changed.hash != bank.hash


def test_a_bank_of_another_model_is_refused_by_name(
    bank: LabelBank, tmp_path: Path, fake_recipe: EngineRecipe
) -> None:
    other = replace(bank, model="other-clip", model_hash="f" * 64)
    path = save_bank(other, tmp_path / "other.bank.safetensors")
    with pytest.raises(BankError, match=r"other-clip \(ffffffffffff\), not to fake") as caught:
        choose_bank(str(path), BankShelf(tmp_path), fake_recipe)
    assert caught.value.code == "bank.other_model"


def test_the_shelf_finds_by_name_release_and_path(bank: LabelBank, tmp_path: Path) -> None:
    shelf = BankShelf(tmp_path / "banks")
    path = shelf.put(bank)
    assert shelf.put(bank) == path
    for ref in ("shop", f"shop-{bank.hash[:12]}", str(path)):
        assert shelf.find(ref).hash == bank.hash
    with pytest.raises(BankError, match=r"no bank 'ship'; there are \['shop-"):
        shelf.find("ship")


def test_a_name_that_several_models_share_finds_the_right_bank(
    bank: LabelBank, tmp_path: Path, fake_recipe: EngineRecipe
) -> None:
    shelf = BankShelf(tmp_path)
    shelf.put(bank)
    newest = shelf.put(replace(bank, model="other-clip", model_hash="f" * 64))
    os.utime(newest, (2**31, 2**31))
    assert choose_bank("shop", shelf, fake_recipe).hash == bank.hash
    assert shelf.find("shop").model == "other-clip"
    assert choose_bank("fake", shelf, fake_recipe).name == "fake"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("labels: [{name: x}]", "name: Field required"),
        ("{name: x, labels: []}", "at least 1 item"),
        ("{name: x, labels: [{name: a, treshold: 0.1}]}", "treshold: Extra inputs"),
        ("{name: x, labels: [{name: a, threshold: 7}]}", "less than 1"),
        ("{name: x, templates: ['no slot'], labels: [{name: a}]}", "exactly one {}"),
        ("{name: '../x', labels: [{name: a}]}", "String should match pattern"),
        ("[1, 2]", "valid dictionary"),
        ("{name: [", "is not YAML"),
    ],
)
def test_a_bad_definition_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "labels.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BankError) as caught:
        BankDefinition.load(path)
    assert says in caught.value.message
    assert caught.value.code == "bank.definition"


def test_doubled_labels_are_refused() -> None:
    definition = BankDefinition(name="x", labels=(LabelDefinition(name="a"),) * 2)
    with pytest.raises(BankError, match=r"named twice: \['a'\]"):
        build_bank(definition, FakeTextTower(), model="fake", logit_scale=1, default_threshold=0.1)


def test_damaged_files_are_refused(bank: LabelBank, tmp_path: Path) -> None:
    good = save_bank(bank, tmp_path / "good").read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(good[: len(good) // 2])
    text = tmp_path / "text"
    text.write_text("not a bank")
    plain = tmp_path / "plain"
    save_file({"matrix": bank.matrix.copy()}, plain)
    for path in (cut, text, plain, tmp_path / "missing"):
        with pytest.raises(BankError):
            load_bank(path)
