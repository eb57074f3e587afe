from __future__ import annotations

import dataclasses
import hashlib
import pickle
from typing import Any

import pytest

from reelsight.nouns.clip import Clip


def test_a_dead_clip_needs_only_a_name_and_a_place() -> None:
    clip = Clip("a", "missing.mp4")
    empty = [f.name for f in dataclasses.fields(clip) if getattr(clip, f.name) is None]
    assert len(empty) == len(dataclasses.fields(clip)) - 2


def test_of_bytes_hashes_and_measures() -> None:
    clip = Clip.of_bytes("a", "a.mp4", b"abc")
    assert clip.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert clip.size_bytes == 3
    assert clip.codec is None


def test_is_immutable_comparable_and_travels() -> None:
    clip = Clip("a", "a.mp4", width=4, height=2, rotation=90)
    assert pickle.loads(pickle.dumps(clip)) == clip
    with pytest.raises(dataclasses.FrozenInstanceError):
        clip.width = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "beef"),
        ("rotation", 45),
        ("size_bytes", -1),
        ("duration_s", float("nan")),
        ("width", -2),
        ("fps", -0.5),
    ],
)
def test_bad_fields_are_refused_with_their_value(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{field} must .*{value}"):
        Clip("a", "a.mp4", **{field: value})


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="clip_id"):
        Clip("", "a.mp4")
