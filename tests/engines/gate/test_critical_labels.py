"""Critical labels from labels.yaml into a bank, without changing the banks that have none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reelsight.engine import FakeTextTower
from reelsight.errors import BankError
from reelsight.labels import BANK_SUFFIX, BankDefinition, build_bank, load_bank, save_bank
from reelsight.nouns.label_bank import LabelBank

SHIPPED = "f85849b236fe5ec666a5debe493d618e9b59e5ff8ae20cf30b66bef3e6781231"


def test_a_bank_without_critical_labels_keeps_its_id(bank: LabelBank) -> None:
    assert bank.hash == SHIPPED
    assert not any(label.critical for label in bank.labels)


def test_a_critical_label_changes_the_id_and_survives_the_file(
    bank: LabelBank, tmp_path: Path
) -> None:
    labels = (replace(bank.labels[0], critical=True), *bank.labels[1:])
    critical = replace(bank, labels=labels)
    assert critical.hash != bank.hash
    read = load_bank(save_bank(critical, tmp_path / f"b{BANK_SUFFIX}"))
    assert read.labels == labels
    assert read.hash == critical.hash


def test_labels_yaml_says_which_are_critical(tmp_path: Path) -> None:
    file = tmp_path / "labels.yaml"
    file.write_text("name: b\nlabels:\n- {name: weapon, critical: true}\n- name: cat\n")
    bank = build_bank(
        BankDefinition.load(file),
        FakeTextTower(),
        model="fake",
        logit_scale=10,
        default_threshold=0.2,
    )
    assert [label.critical for label in bank.labels] == [True, False]
    file.write_text("name: b\nlabels:\n- {name: weapon, critical: perhaps}\n")
    with pytest.raises(BankError, match="critical"):
        BankDefinition.load(file)
