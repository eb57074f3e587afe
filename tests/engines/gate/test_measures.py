from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.gate.measures import agreement_of_shown, centred_cosine, margins, topk_overlap
from reelsight.nouns.label_bank import LabelBank


def test_centring_sees_what_the_raw_cosine_hides() -> None:
    """Embeddings that share a large mean stay alike however wrong their differences are."""
    rng = np.random.default_rng(0)
    mean = np.zeros(64) + 1.0
    rows = (mean + rng.normal(0, 0.02, (50, 64))).astype(np.float32)
    wrong = (mean + rng.normal(0, 0.02, (50, 64))).astype(np.float32)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(wrong, axis=1)
    assert (np.sum(rows * wrong, axis=1) / norms).min() > 0.999
    assert abs(centred_cosine(rows, wrong).mean()) < 0.2
    assert np.allclose(centred_cosine(rows, rows), 1)


def test_margins_are_those_of_the_stored_float16(bank: LabelBank) -> None:
    row = bank.matrix[:1]
    found = margins(row, bank)
    stored = row.astype(np.float16).astype(np.float64) @ bank.matrix.astype(np.float64).T
    assert np.array_equal(found, stored - bank.thresholds)


def test_a_decision_that_float16_turns_is_counted_as_users_get_it(bank: LabelBank) -> None:
    """A cosine just over a threshold in float32 that is just under it once stored."""
    row = np.zeros((1, bank.matrix.shape[1]), dtype=np.float32)
    row[0, 0] = 0.1 + 3e-6  # float16 has 0.09998 and 0.10004 there.
    matrix = np.zeros((1, row.shape[1]), dtype=bank.matrix.dtype)
    matrix[0, 0] = 1
    one = replace(bank, labels=(replace(bank.labels[0], threshold=0.1),), matrix=matrix)
    assert (row @ one.matrix.astype(np.float32).T - one.thresholds).item() > 0
    assert margins(row, one).item() < 0


def test_topk_counts_members_and_not_their_order() -> None:
    ours = np.array([[5.0, 4, 3, 2], [1.0, 2, 3, 4]])
    assert topk_overlap(ours, ours[:, [1, 0, 2, 3]], 2) == 0.5 * (1.0 + 1.0)
    assert topk_overlap(ours, -ours, 2) == 0
    assert topk_overlap(ours, np.array([[5.0, 4, 3, 2], [4.0, 3, 2, 1]]), 1) == 0.5


def test_showing_nothing_is_no_agreement() -> None:
    shown = np.zeros((10, 50), dtype=np.bool_)
    shown[:, 3] = True
    nothing = np.zeros_like(shown)
    assert (shown == nothing).mean() == pytest.approx(0.98)
    assert agreement_of_shown(shown, nothing) == 0
    assert agreement_of_shown(nothing, nothing) == 1
    assert agreement_of_shown(shown, shown) == 1
