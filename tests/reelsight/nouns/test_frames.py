from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from reelsight.nouns.frames import Frames


def frames(**changes: Any) -> Frames:
    fields: dict[str, Any] = {
        "clip_id": "a",
        "pixels": np.arange(4 * 2 * 3 * 3, dtype=np.uint8).reshape(4, 2, 3, 3),
        "pts": np.array([0.0, 1.0, 2.5, 3.0]),
        "end_s": 5.0,
        "policy": "rate:1",
        "asked": 5,
    }
    return Frames(**{**fields, **changes})


def test_behaves_like_a_sequence() -> None:
    batch = frames()
    assert len(batch) == batch.returned == 4
    assert [frame.pts for frame in batch] == [0.0, 1.0, 2.5, 3.0]
    assert batch[-1].pts == 3.0
    assert batch[1].pixels.tolist() == batch.pixels[1].tolist()
    with pytest.raises(IndexError):
        batch[4]


def test_weights_cover_the_clip() -> None:
    batch = frames()
    assert batch.weights.tolist() == [1.0, 1.5, 0.5, 2.0]
    assert batch.weights.sum() == batch.end_s - batch.pts[0]
    assert [frame.weight for frame in batch] == batch.weights.tolist()


@pytest.mark.parametrize(
    ("key", "pts", "end_s"),
    [
        (slice(1, 3), [1.0, 2.5], 3.0),
        (slice(2, None), [2.5, 3.0], 5.0),
        (slice(None, None, 2), [0.0, 2.5], 5.0),
        (slice(0, 3, 2), [0.0, 2.5], 5.0),
        (slice(0, 1, 2), [0.0], 2.5),
        (slice(4, 4), [], 5.0),
    ],
)
def test_a_slice_keeps_times_and_ends_where_the_next_one_starts(
    key: slice, pts: list[float], end_s: float
) -> None:
    part = frames()[key]
    assert part.pts.tolist() == pts
    assert part.end_s == end_s
    assert part.pixels.flags.c_contiguous
    assert part.clip_id == "a"


def test_slices_run_forwards_only() -> None:
    with pytest.raises(ValueError, match="step -1"):
        frames()[::-1]


def test_repr_shows_shapes_and_times_not_pixels() -> None:
    text = repr(frames(stopped="broken"))
    assert "uint8[4, 2, 3, 3]" in text
    assert "0.000..3.000 s" in text
    assert "4/5" in text
    assert "stopped='broken'" in text
    assert len(text) < 200


def test_partial_is_having_been_stopped() -> None:
    assert not frames().partial
    assert frames(stopped="decoder: no").partial


def test_travels_between_processes() -> None:
    batch = pickle.loads(pickle.dumps(frames()))
    assert batch.pts.tolist() == frames().pts.tolist()
    assert (batch.pixels == frames().pixels).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pixels": np.zeros((4, 2, 3, 3), np.float32)}, r"float32\[4, 2, 3, 3\]"),
        ({"pixels": np.zeros((4, 2, 3, 4), np.uint8)}, r"uint8\[4, 2, 3, 4\]"),
        ({"pixels": np.zeros((4, 3, 2, 3), np.uint8).swapaxes(1, 2)}, "C-contiguous"),
        ({"pts": np.array([0.0, 1.0])}, r"float64 \[4\], got float64\[2\]"),
        ({"pts": np.arange(4)}, r"int64\[4\]"),
        ({"pts": np.array([0.0, 1.0, 1.0, 2.0])}, "ascending"),
        ({"pts": np.array([-1.0, 1.0, 2.0, 3.0])}, ">= 0"),
        ({"pts": np.array([0.0, 1.0, 2.0, np.inf])}, "finite"),
        ({"end_s": 2.9}, "2.9"),
        ({"end_s": float("nan")}, "nan"),
        ({"asked": 3}, "got 3"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_value(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        frames(**changes)
