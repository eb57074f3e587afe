"""Frame sets: what they refuse, what their hash speaks of, and how frames are degraded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.precision.frameset import FrameSet, degraded
from reelsight.errors import EngineError
from tests.engines.precision.conftest import scenes


@pytest.fixture(scope="module")
def clean() -> FrameSet:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    return FrameSet(coarse.repeat(8, axis=1).repeat(8, axis=2))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 32, 32, 3), np.uint8),
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((2, 32, 32), np.uint8),
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((2, 32, 16, 3), np.uint8),
        np.zeros((2, 0, 0, 3), np.uint8),
    ],
)
def test_what_is_no_frame_set_is_refused(frames: Any) -> None:
    with pytest.raises(EngineError) as caught:
        FrameSet(frames)
    assert caught.value.code == "engine.bad_frames"
    assert caught.value.hint


def test_hash_speaks_of_every_pixel(clean: FrameSet) -> None:
    changed = clean.frames.copy()
    changed[7, 3, 3, 1] ^= 1
    assert FrameSet(changed).sha256 != clean.sha256
    assert FrameSet(clean.frames.copy()).sha256 == clean.sha256
    assert FrameSet(clean.frames[::-1]).sha256 != clean.sha256


def test_frames_cannot_be_changed(clean: FrameSet) -> None:
    with pytest.raises(ValueError, match="read-only"):
        clean.frames[0] = 0


def test_file_holds_the_same_frames(clean: FrameSet, tmp_path: Path) -> None:
    path = clean.save(tmp_path / "deep" / "frames.safetensors")
    again = FrameSet.load(path)
    assert again.sha256 == clean.sha256
    assert np.array_equal(again.frames, clean.frames)


@pytest.mark.parametrize("where", [-1, 0, "cut", "missing"])
def test_damaged_file_is_refused(clean: FrameSet, tmp_path: Path, where: int | str) -> None:
    path = clean.save(tmp_path / "frames.safetensors")
    content = bytearray(path.read_bytes())
    if isinstance(where, int):
        content[where] ^= 255
    path.write_bytes(content[: len(content) // 2] if where == "cut" else content)
    if where == "missing":
        path.unlink()
    with pytest.raises(EngineError) as caught:
        FrameSet.load(path)
    assert caught.value.code == "engine.bad_frames"


def test_unwritable_place_is_said(clean: FrameSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EngineError) as caught:
        clean.save(tmp_path / "file" / "frames.safetensors")
    assert caught.value.code == "engine.unwritable"


def test_joined_keeps_the_order(clean: FrameSet) -> None:
    both = clean.joined(degraded(clean, 0))
    assert np.array_equal(both.frames[:24], clean.frames)
    assert len(both) == 48
    with pytest.raises(EngineError, match="cannot be one set"):
        clean.joined(FrameSet(np.zeros((1, 32, 32, 3), np.uint8)))


def test_degradation_follows_the_seed(clean: FrameSet) -> None:
    assert degraded(clean, 5).sha256 == degraded(clean, 5).sha256 != degraded(clean, 6).sha256
    few = degraded(FrameSet(clean.frames[:3]), 5)
    assert np.array_equal(few.frames, degraded(clean, 5).frames[:3])


def test_degraded_frames_changed_and_still_show_the_scene() -> None:
    scene = FrameSet(np.repeat(scenes(2, 224, 9).frames[:1], 40, axis=0))
    spoilt = degraded(scene, 1)
    pairs = zip(scene.frames.astype(np.float64), spoilt.frames.astype(np.float64), strict=True)
    errors = np.array([np.abs(a - b).mean() for a, b in pairs])
    assert (errors > 0.3).all(), "every frame is recompressed at least"
    assert np.ptp(errors) > 10, "frames are degraded to different extents"
    assert (spoilt.frames.std(axis=(1, 2, 3)) > 10).all(), "no frame is wiped out"
    letterboxed = (spoilt.frames[:, :4].mean(axis=(1, 2, 3)) < 8) | (
        spoilt.frames[:, :, :4].mean(axis=(1, 2, 3)) < 8
    )
    assert 0 < letterboxed.sum() < 20
