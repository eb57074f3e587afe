"""The words: enough of them, distinct, and none of the held-out ones among them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reelsight.errors import ConfigError
from reelsight.samples.vocabulary import GROUPS, find, group_of, labels, names

HELD_OUT = Path(__file__).parents[3] / "training" / "mini" / "heldout_phrases.json"


def test_there_are_enough_labels_and_each_is_complete() -> None:
    assert len(labels()) >= 44
    assert len(set(names())) == len(names())
    for label in labels():
        assert label.group in GROUPS
        assert label.en
        assert all(any(ord(c) > 0x2E7F for c in alias) or alias.isascii() for alias in label.zh)
        assert label.zh
        assert len(set(label.phrases)) == len(label.phrases) >= 12
        assert all(phrase == phrase.lower().strip() for phrase in label.phrases)


def test_no_phrase_names_two_labels() -> None:
    every = [phrase for label in labels() for phrase in label.phrases]
    assert len(set(every)) == len(every)


def test_no_held_out_paraphrase_is_or_is_inside_a_training_phrase() -> None:
    held: dict[str, list[str]] = json.loads(HELD_OUT.read_text(encoding="utf-8"))
    assert set(held) == set(names())
    trained = "\n".join(phrase for label in labels() for phrase in label.phrases)
    for paraphrases in held.values():
        assert len(set(paraphrases)) >= 4
        assert not [text for text in paraphrases if text in trained]


def test_an_unknown_label_is_refused_with_the_known_ones() -> None:
    assert group_of("qr_code") == "overlay"
    with pytest.raises(ConfigError, match="unknown label 'unicorn'") as caught:
        find("unicorn")
    assert "qr_code" in caught.value.hint
