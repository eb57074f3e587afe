"""The duration in a clip's header, against PyAV's, and headers that lie or break off."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from deployments.jobs import duration
from deployments.jobs.duration import header_seconds
from reelsight.samples.clips import SampleClip


def encoded(path: Path, seconds: float, options: dict[str, str] | None = None) -> bytes:
    with av.open(path, "w", options=options or {}) as container:
        stream = container.add_stream("libx264" if path.suffix != ".webm" else "libvpx", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(round(seconds * 10)):
            picture = np.full((48, 64, 3), n * 7 % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"movflags": "faststart"}),
        ("a.mov", {}),
        ("a.mkv", {}),
        ("a.webm", {}),
    ],
)
def test_it_is_what_was_encoded(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    data = encoded(tmp_path / name, 3.0, options)
    assert header_seconds(data) == pytest.approx(3.0, abs=0.11)


def test_a_fragmented_clip_is_not_said_to_be_short(tmp_path: Path) -> None:
    data = encoded(tmp_path / "a.mp4", 3.0, {"movflags": "frag_keyframe+empty_moov"})
    assert header_seconds(data) in (None, pytest.approx(3.0, abs=0.11))


def test_it_agrees_with_pyav(samples: list[SampleClip]) -> None:
    told = 0
    for sample in samples:
        seconds = header_seconds(sample.path.read_bytes())
        if seconds is not None:
            with av.open(sample.path) as container:
                assert container.duration is not None
                assert seconds == pytest.approx(container.duration / 1e6, abs=0.05)
            told += 1
    assert told > len(samples) / 2


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


MVHD_64 = bytes([1, 0, 0, 0]) + struct.pack(">QQIQ", 0, 0, 1000, 5_000_000)
MVHD_32 = bytes(4) + struct.pack(">IIII", 0, 0, 1000, 2500)
MVHD_FRAG = bytes(4) + struct.pack(">IIII", 0, 0, 1000, 0)
MEHD = box(b"mvex", box(b"mehd", bytes(4) + struct.pack(">I", 9000)))


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", MVHD_64)), 5000.0),
        (box(b"moov", box(b"mvhd", MVHD_32)), 2.5),
        (box(b"moov", box(b"mvhd", MVHD_FRAG) + MEHD), 9.0),
        (box(b"moov", box(b"mvhd", MVHD_FRAG)), None),
        (box(b"moov", box(b"mvhd", bytes(20))), None),
        (box(b"moov", box(b"mvhd", b"")), None),
        (struct.pack(">I4sQ", 1, b"free", 16) + box(b"moov", box(b"mvhd", MVHD_32)), 2.5),
        (struct.pack(">I4s", 0, b"moov") + box(b"mvhd", MVHD_32), 2.5),
        (struct.pack(">I4s", 4, b"free") * 3, None),
        (b"", None),
        (b"\x1a\x45\xdf\xa3", None),
        (b"\x1a\x45\xdf\xa3\x00\x00\x00", None),
        (b"#EXTM3U\n", None),
    ],
)
def test_boxes_by_hand(data: bytes, seconds: float | None) -> None:
    assert header_seconds(data) == seconds


def test_boxes_in_boxes_are_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    boxes = duration._boxes

    def counted(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
        nonlocal read
        for each in boxes(data):
            read += 1
            yield each

    monkeypatch.setattr(duration, "_boxes", counted)
    inner = box(b"free", b"") * 4096
    header_seconds(box(b"moov", box(b"mvhd", MVHD_32) + box(b"mvex", inner) * 50))
    assert read < 3 * 4096


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_what_is_damaged_is_none_or_a_number(name: str, tmp_path: Path) -> None:
    data = encoded(tmp_path / name, 1.0)
    chance = random.Random(5)

    def check(text: bytes) -> None:
        seconds = header_seconds(text)
        assert seconds is None or seconds > 0

    for length in range(0, len(data), 7):
        check(data[:length])
    for _ in range(3000):
        bad = bytearray(data)
        for _ in range(chance.randrange(1, 8)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        check(bytes(bad))
