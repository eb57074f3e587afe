"""The clips of the NVDEC benchmark: panned texture with grain, made by PyAV, or files as given.

A clip has one keyframe unless it says otherwise, so that every picture up to the last one asked for
has to be decoded, by whoever decodes. GOPs are closed: those of x265's defaults are refused.
"""

from __future__ import annotations

import io
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np

__all__ = ["MADE", "TINY", "Footage", "MadeFootage", "given", "make_all"]

_NO_WORDS = "log-level=none:open-gop=0:scenecut=0:repeat-headers=0"


@dataclass(frozen=True, slots=True)
class MadeFootage:
    """A clip to be made.

    Attributes:
        name: Of its row.
        encoder: FFmpeg's.
        width: Pixels.
        height: Pixels.
        seconds: Length.
        fps: Pictures a second.
        gop: Pictures from one keyframe to the next; 0 for a single keyframe.
    """

    name: str
    encoder: str
    width: int
    height: int
    seconds: int = 10
    fps: int = 30
    gop: int = 0


@dataclass(frozen=True, slots=True)
class Footage:
    """A clip that is measured.

    Attributes:
        name: Of its row.
        codec: FFmpeg's canonical name.
        width: Pixels.
        height: Pixels.
        pictures: In the whole clip.
        seconds: Length.
        mbit_s: Megabits a second.
        path: Where it lies.
    """

    name: str
    codec: str
    width: int
    height: int
    pictures: int
    seconds: float
    mbit_s: float
    path: str


MADE = (
    MadeFootage("h264 854x480", "libx264", 854, 480),
    MadeFootage("h264 1920x1080", "libx264", 1920, 1080),
    MadeFootage("hevc 854x480", "libx265", 854, 480),
    MadeFootage("hevc 1920x1080", "libx265", 1920, 1080),
    MadeFootage("h264 854x480, key every 2 s", "libx264", 854, 480, gop=60),
)
TINY = (
    MadeFootage("h264 96x64", "libx264", 96, 64, seconds=3, fps=10),
    MadeFootage("hevc 96x64", "libx265", 96, 64, seconds=3, fps=10),
)


def make_all(made: tuple[MadeFootage, ...], directory: Path, jobs: int) -> list[Footage]:
    """Encode clips, some at a time.

    Args:
        made: Which.
        directory: Where they go.
        jobs: Processes at a time.
    """
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        paths = pool.map(_make, made, [str(directory)] * len(made))
        return [given(path, clip.name) for path, clip in zip(paths, made, strict=True)]


def given(path: str, name: str | None = None) -> Footage:
    """What a file is.

    Raises:
        SystemExit: It is no MP4.
    """
    size = Path(path).stat().st_size
    with av.open(path, mode="r") as container:
        if "mp4" not in container.format.name:
            raise SystemExit(f"{path} is no MP4")
        stream = container.streams.video[0]
        codec = stream.codec_context.codec.canonical_name
        width, height = stream.codec_context.width, stream.codec_context.height
        pictures = sum(1 for packet in container.demux(stream) if packet.size)
        seconds = pictures / float(stream.average_rate or 30)
    rate = round(size * 8e-6 / seconds, 2)
    name = name or f"{codec} {width}x{height} ({Path(path).stem})"
    return Footage(name, codec, width, height, pictures, round(seconds, 3), rate, path)


def _make(clip: MadeFootage, directory: str) -> str:
    sink = io.BytesIO()
    count = clip.seconds * clip.fps
    key = str(clip.gop or 10 * count)
    options = {"preset": "veryfast", "crf": "20", "bf": "3", "g": key, "sc_threshold": "0"}
    if clip.encoder == "libx265":
        words = f"{_NO_WORDS}:keyint={key}:min-keyint={key}:bframes=3"
        options = {"preset": "superfast", "crf": "22", "x265-params": words}
    picture = _Panned(clip.width, clip.height)
    with av.open(sink, "w", format="mp4") as container:
        stream: Any = container.add_stream(clip.encoder, rate=clip.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.codec_context.colorspace = stream.codec_context.color_range = 1
        for number in range(count):
            frame = picture.at(number)
            frame.pts, frame.time_base = number, Fraction(1, clip.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    path = Path(directory) / f"{clip.name.replace(' ', '-').replace(',', '')}.mp4"
    path.write_bytes(sink.getvalue())
    return str(path)


class _Panned:
    """A window that moves over a texture of soft blobs, with a little grain of its own."""

    def __init__(self, width: int, height: int) -> None:
        rng = np.random.default_rng(3)
        self._width, self._height, self._rng = width, height, rng
        cells = rng.integers(30, 225, (height // 16 + 30, width // 16 + 60)).astype(np.float32)
        for axis in (0, 1):
            cells = ((cells + np.roll(cells, 1, axis)) / 2).astype(np.float32)
        texture = np.kron(cells, np.ones((16, 16), np.float32))
        texture += rng.normal(0, 2, texture.shape).astype(np.float32)
        self._luma = texture.clip(16, 235).astype(np.uint8)
        self._chroma = np.ascontiguousarray(self._luma[::2, ::2])
        self._grain = rng.integers(0, 9, (height + 64, width + 64)).astype(np.uint8)

    def at(self, number: int) -> av.VideoFrame:
        """The n-th picture, YUV 4:2:0."""
        x = 2 * (number % 400)
        y = 2 * round(80 + 80 * np.sin(number / 20))
        gx, gy = self._rng.integers(0, 64, 2)
        grain = self._grain[gy : gy + self._height, gx : gx + self._width]
        luma = self._luma[y : y + self._height, x : x + self._width] + grain
        high, wide = self._height // 2, self._width // 2
        blue = self._chroma[y // 2 : y // 2 + high, x // 2 : x // 2 + wide]
        frame = av.VideoFrame(self._width, self._height, "yuv420p")
        for plane, values in zip(frame.planes, (luma, blue, 255 - blue), strict=True):
            rows = np.zeros((plane.height, plane.line_size), np.uint8)
            rows[:, : values.shape[1]] = values
            plane.update(rows.tobytes().ljust(plane.buffer_size, b"\0"))
        frame.colorspace = frame.color_range = 1
        return frame
