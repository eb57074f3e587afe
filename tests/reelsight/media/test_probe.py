from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.probe import probe
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from tests.reelsight.media.made_clips import even

LIMITS = MediaLimits()
# name: codec, display size, rotation, pixel format, fps, seconds, frames at one a second
FILES = {
    "bt709_full_range.mp4": ("h264", (1280, 720), 0, "yuvj420p", 30.0, 1.0, 1),
    "nasa_multistream_h264.mp4": ("h264", (480, 270), 0, "yuv420p", 29.97, 13.013, 14),
    "pancake_h264.mkv": ("h264", (426, 240), 0, "yuv420p", 30.0, 10.333, 11),
    "rotated_90.mov": ("h264", (320, 568), 90, "yuv420p", 30.0, 0.1, 1),
    "short_av1.mkv": ("av1", (640, 360), 0, "yuv420p", 25.0, 5.0, 5),
    "short_h265.mp4": ("hevc", (128, 128), 0, "yuv420p", 10.0, 1.0, 1),
    "short_h265_10bit.mp4": ("hevc", (200, 200), 0, "yuv420p10le", 30.0, 1.0, 1),
    "street_30s_h264.mp4": ("h264", (854, 480), 0, "yuv420p", 24.0, 30.0, 30),
    "unordered_pts.mov": ("h264", (50, 50), 0, "yuv420p", 32.0, 0.125, 1),
}


@pytest.mark.parametrize("name", FILES)
def test_real_files_are_described_and_decoded(videos_dir: Path, name: str) -> None:
    codec, size, rotation, pixel_format, fps, seconds, count = FILES[name]
    data = (videos_dir / name).read_bytes()
    header = probe(data, LIMITS)
    assert (header.codec, (header.width, header.height)) == (codec, size)
    assert (header.rotation, header.pixel_format) == (rotation, pixel_format)
    assert header.fps == pytest.approx(fps, abs=0.01)
    clip, frames = decode(name, name, data, Sampling(), Geometry(64), LIMITS)
    assert clip.duration_s == frames.end_s == pytest.approx(seconds, abs=0.001)
    assert header.fill(Clip.of_bytes(name, name, data), clip.duration_s) == clip
    assert (frames.returned, frames.asked, frames.stopped) == (count, count, None)
    assert frames.max_error_s < 1 / fps


def test_unordered_stamps_come_out_in_order(videos_dir: Path) -> None:
    data = (videos_dir / "unordered_pts.mov").read_bytes()
    _, frames = decode("u", "u", data, Sampling(rate=32), Geometry(32), LIMITS)
    assert frames.pts.tolist() == [0, 1 / 32, 2 / 32, 3 / 32]


def test_the_header_of_a_made_clip(coded: Callable[..., bytes]) -> None:
    header = probe(coded(stamps=even(50, 40)), LIMITS)
    assert (header.demuxer, header.frames) == ("mov", 50)
    assert header.duration_s == pytest.approx(2.0)
    assert probe(coded(stamps=even(50, 40), container="matroska"), LIMITS).frames is None
