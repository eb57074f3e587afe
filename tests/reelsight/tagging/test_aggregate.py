from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from reelsight.nouns.label_bank import Label, LabelBank
from reelsight.tagging import confidences, tags_of

SCALE = 20.0


def bank(*thresholds: float) -> LabelBank:
    n = len(thresholds)
    return LabelBank(
        name="axes",
        model="m",
        model_hash="0" * 64,
        logit_scale=SCALE,
        labels=tuple(Label(f"l{i}", (f"l{i}",), t) for i, t in enumerate(thresholds)),
        matrix=np.eye(n, dtype=np.float32),
    )


def vectors(*rows: tuple[float, ...]) -> npt.NDArray[np.float16]:
    return np.array(rows, dtype=np.float16)


def seconds(*values: float) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_confidence_is_one_half_at_the_threshold_and_grows_with_the_cosine() -> None:
    got = confidences(vectors((0.5, 0.25), (0.75, 0.0)), bank(0.5, 0.5))
    assert got[0, 0] == 0.5
    assert got[0, 1] == pytest.approx(sigmoid(-0.25 * SCALE))
    assert got[1, 0] == pytest.approx(sigmoid(0.25 * SCALE))


def test_segments_score_coverage_and_best_frame_by_hand() -> None:
    # Label l0 is on in frames 0, 1 and 3 of four; frames stand for 1, 1, 2 and 0.5 seconds.
    pts, weights = seconds(0, 1, 2, 4), seconds(1, 1, 2, 0.5)
    embeddings = vectors((0.75, 0), (0.5, 0), (0.25, 0), (1.0, 0))
    (tag,) = tags_of(pts, weights, embeddings, bank(0.5, 0.5))
    first, second, last = sigmoid(0.25 * SCALE), 0.5, sigmoid(0.5 * SCALE)
    assert [(s.start_ms, s.end_ms, s.best_ms) for s in tag.segments] == [
        (0, 2000, 0),
        (4000, 4500, 4000),
    ]
    assert tag.segments[0].score == pytest.approx((first + second) / 2)
    assert tag.segments[1].score == pytest.approx(last)
    assert tag.score == pytest.approx((first + second + 0.5 * last) / 2.5)
    assert tag.coverage == pytest.approx(2.5 / 4.5)
    assert tag.best_ms == 4000


def test_weights_are_seconds_not_frames() -> None:
    # The same picture sampled densely at first: the tag must not look longer than it was.
    dense = tags_of(
        seconds(0, 0.1, 0.2, 0.3),
        seconds(0.1, 0.1, 0.1, 9.7),
        vectors((1, 0), (1, 0), (1, 0), (0, 1)),
        bank(0.5, 0.5),
    )
    assert [t.label for t in dense] == ["l1", "l0"]
    assert dense[1].coverage == pytest.approx(0.03)


def test_the_most_prominent_tag_comes_first_and_names_break_ties() -> None:
    pts, weights = seconds(0, 1), seconds(1, 1)
    both = tags_of(pts, weights, vectors((1, 1, 0), (1, 1, 1)), bank(0.5, 0.5, 0.5))
    assert [t.label for t in both] == ["l0", "l1", "l2"]


def test_no_frames_no_tags() -> None:
    assert tags_of(seconds(), seconds(), np.zeros((0, 1), np.float16), bank(0.5)) == ()


def test_a_still_of_no_duration_is_covered_whole() -> None:
    (tag,) = tags_of(seconds(0), seconds(0), vectors((1,)), bank(0.5))
    assert tag.coverage == 1.0
    assert tag.segments[0].start_ms == tag.segments[0].end_ms == 0


def test_a_frame_scores_the_same_whatever_is_scored_beside_it() -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((50, 128))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    matrix = rng.standard_normal((48, 128))
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    many = LabelBank(
        name="random",
        model="m",
        model_hash="0" * 64,
        logit_scale=SCALE,
        labels=tuple(Label(f"l{i}", ("x",), 0.1) for i in range(48)),
        matrix=matrix.astype(np.float32),
    )
    half = rows.astype(np.float16)
    together = confidences(half, many)
    alone = np.concatenate([confidences(half[i : i + 1], many) for i in range(50)])
    assert together.tobytes() == alone.tobytes()


def test_frames_from_the_middles_of_stretches_cover_the_clip_from_its_start() -> None:
    # Two frames of a 10 s clip, at 2.5 and 7.5 s, each standing for five seconds.
    (tag,) = tags_of(seconds(2.5, 7.5), seconds(5, 5), vectors((1, 0), (0, 0)), bank(0.5, 0.5))
    assert [(s.start_ms, s.end_ms, s.best_ms) for s in tag.segments] == [(0, 5000, 2500)]
    assert tag.coverage == 0.5
