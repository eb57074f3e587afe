"""Which frames calibrate and which judge."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.precision.frameset import FrameSet
from engines.precision.plan import plan_named
from engines.runtimes.ort_backend import OrtBackend
from reelsight.cli.engine_frames import JudgingFrames, collect_frames, ranges_of
from reelsight.errors import ConfigError, MediaError
from reelsight.nouns.engine_spec import Geometry
from reelsight.settings import MediaSettings, Settings

GEOMETRY = Geometry(16)


def collect(source: Path, count: int) -> JudgingFrames:
    return collect_frames(source, GEOMETRY, MediaSettings(), count=count, seed=1)


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A directory of clips that a decoder of ours gives frames of, by clip; None is damaged."""

    def make(frames: list[int | None]) -> Path:
        names = [f"{place:04}.mp4" for place in range(len(frames))]
        for name in names:
            (tmp_path / name).touch()

        def decode(clip: str, *_: object) -> tuple[None, SimpleNamespace]:
            place = names.index(clip)
            n = frames[place]
            if n is None:
                raise MediaError(f"{clip} is damaged")
            pixels = np.zeros((n, 16, 16, 3), np.uint8)
            pixels[..., 0], pixels[..., 1] = divmod(place, 256)
            return None, SimpleNamespace(pixels=pixels)

        decoder = SimpleNamespace(decode=decode, close=lambda: None)
        monkeypatch.setattr("reelsight.media.decoder.open_decoder", lambda *_: decoder)
        monkeypatch.setattr("reelsight.media.fetch.fetch", lambda *_: b"")
        return tmp_path

    return make


def clips_of(frames: FrameSet | None, clean: int) -> set[int]:
    assert frames is not None
    return {int(f[0, 0, 0]) * 256 + int(f[0, 0, 1]) for f in frames.frames[:clean]}


def test_no_clip_gives_frames_to_both_sets(clips: Any) -> None:
    found = collect(clips([16] * 8), 64)
    assert found.calibration is not None
    judging = clips_of(found.gate, len(found.gate) // 2)
    calibrating = clips_of(found.calibration, len(found.calibration) // 2)
    assert judging
    assert calibrating
    assert not judging & calibrating


def test_one_clip_judges_and_calibrates_nothing(clips: Any, tmp_path: Path) -> None:
    found = collect(clips([32]), 32)
    assert found.calibration is None
    assert len(found.gate) == 64
    with pytest.raises(ConfigError, match="only one gave frames") as caught:
        ranges_of(
            Settings.load(),
            SimpleNamespace(image=tmp_path),  # type: ignore[arg-type]
            plan_named("int8-fp32"),
            OrtBackend("onnxruntime-cpu"),
            found,
            "minmax",
            SimpleNamespace(),  # type: ignore[arg-type]
        )
    assert caught.value.code == "config.frames"


def test_a_frame_set_is_split_where_its_clips_change_once_at_most(tmp_path: Path) -> None:
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2)
    FrameSet(frames.repeat(3, 3)).save(tmp_path / "f.safetensors")
    found = collect(tmp_path / "f.safetensors", 0)
    assert found.calibration is not None
    assert found.calibration.frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert found.gate.frames[:, 0, 0, 0].tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("frames", [[5] * 300, [16, None] * 40])
def test_clips_are_taken_until_there_are_enough(clips: Any, frames: list[int | None]) -> None:
    """Short clips, and a list of which half cannot be read."""
    found = collect(clips(frames), 600)
    assert found.calibration is not None
    assert (len(found.gate) + len(found.calibration)) // 2 >= 600


def test_nothing_readable_is_an_error(clips: Any) -> None:
    with pytest.raises(ConfigError, match="gave no frames"):
        collect(clips([None, None]), 32)
