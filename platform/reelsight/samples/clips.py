"""Sample clips: short real video files whose scenes, labels and times are known.

Each clip holds one to three scenes. A scene has one primary label and lasts a whole number of
frames, so its start and end are exact. Pictures change a few times a second and are held between,
which keeps encoding cheap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from av.video.stream import VideoStream

from reelsight.errors import ConfigError
from reelsight.samples.canvas import Pixels
from reelsight.samples.encoding import encoded
from reelsight.samples.scene import compose
from reelsight.samples.vocabulary import names

__all__ = ["SampleClip", "TruthSegment", "write_samples"]


@dataclass(frozen=True)
class TruthSegment:
    """One scene of a sample clip.

    Attributes:
        label: The scene's primary label.
        start_s: Time of its first frame, seconds.
        end_s: Time at which the next scene's first frame is due, or the clip ends; seconds.
    """

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class SampleClip:
    """One written clip and what is true of it.

    Attributes:
        clip_id: Unique in its directory.
        path: The file.
        duration_s: Number of frames over the frame rate, seconds.
        truth: The scenes in order; they cover the clip without gaps.
    """

    clip_id: str
    path: Path
    duration_s: float
    truth: tuple[TruthSegment, ...]

    @property
    def expected(self) -> tuple[str, ...]:
        """The primary labels, the one shown longest first."""
        total: dict[str, float] = {}
        for part in self.truth:
            total[part.label] = total.get(part.label, 0.0) + part.end_s - part.start_s
        return tuple(sorted(total, key=lambda label: -total[label]))


@dataclass(frozen=True)
class _Format:
    codec: str
    suffix: str
    size: tuple[int, int]
    fps: int
    options: tuple[tuple[str, str], ...]
    turned: bool = False


_X264 = (("preset", "veryfast"), ("crf", "21"))
_FORMATS = (
    _Format("libx264", "mp4", (640, 360), 25, _X264),
    _Format("libx264", "mp4", (360, 640), 30, _X264),
    _Format("libx264", "mkv", (480, 360), 24, _X264),
    _Format("libx264", "mp4", (406, 720), 30, _X264),
    _Format(
        "libx265",
        "mp4",
        (480, 270),
        25,
        (("preset", "ultrafast"), ("x265-params", "log-level=none:pools=2")),
    ),
    _Format("libx264", "mp4", (480, 480), 30, _X264),
    _Format("libx264", "mp4", (640, 360), 24, _X264, turned=True),
    # SVT-AV1 4.1 was seen to wait for itself for ever: fewer threads have less to wait for.
    _Format(
        "libsvtav1",
        "mp4",
        (480, 270),
        24,
        (("preset", "12"), ("crf", "32"), ("svtav1-params", "lp=1")),
    ),
    _Format("libx264", "mp4", (854, 480), 25, _X264),
    _Format(
        "libvpx-vp9",
        "webm",
        (426, 240),
        25,
        (("deadline", "realtime"), ("cpu-used", "8"), ("crf", "30")),
    ),
    _Format("libx264", "mp4", (360, 640), 24, _X264),
    _Format("libx264", "mkv", (640, 272), 25, _X264),
)
_SHARES = ((1.0,), (0.64, 0.36), (0.37, 0.63), (0.24, 0.53, 0.23))
_HELD_FPS = 6.0


def write_samples(
    directory: Path,
    *,
    count: int = 12,
    seed: int = 0,
    seconds: tuple[float, float] = (6.0, 8.0),
) -> list[SampleClip]:
    """Write clips, `manifest.parquet` and `truth.json` into a directory.

    Args:
        directory: Made when missing. Files of the same names are replaced.
        count: Number of clips.
        seed: The same seed writes the same scenes.
        seconds: Shortest and longest duration of a clip.

    Returns:
        The clips in order of clip_id.

    Raises:
        ConfigError: `count` or `seconds` is out of range.
    """
    if count < 1 or not 1.0 <= seconds[0] <= seconds[1]:
        raise ConfigError(
            f"cannot write {count} clips of {seconds} seconds",
            hint="Ask for at least one clip of at least one second.",
        )
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, 77])
    deck = _deck(rng)
    clips = [_write_clip(directory, index, seed, rng, deck, seconds) for index in range(count)]
    _write_manifest(directory, clips)
    return clips


def _deck(rng: np.random.Generator) -> Iterator[str]:
    """Labels in random order, each once before any comes again."""
    every = list(names())
    while True:
        for index in rng.permutation(len(every)).tolist():
            yield every[index]


def _write_clip(
    directory: Path,
    index: int,
    seed: int,
    rng: np.random.Generator,
    deck: Iterator[str],
    seconds: tuple[float, float],
) -> SampleClip:
    form = _usable(_FORMATS[index % len(_FORMATS)])
    frames = round(float(rng.uniform(*seconds)) * form.fps)
    shares = _SHARES[int(rng.integers(0, len(_SHARES)))]
    cuts = [round(float(edge) * frames) for edge in np.cumsum((0.0, *shares))]
    scenes = [(next(deck), first, last) for first, last in pairwise(cuts)]
    clip_id = f"sample-{seed:02d}-{index:03d}"
    path = directory / f"{clip_id}.{form.suffix}"
    _encode(path, form, scenes, [seed, index])
    truth = tuple(
        TruthSegment(label, first / form.fps, last / form.fps) for label, first, last in scenes
    )
    return SampleClip(clip_id, path, frames / form.fps, truth)


def _usable(form: _Format) -> _Format:
    """The format itself, or H.264 where this build of the codecs lacks its encoder."""
    if form.codec in av.codecs_available:
        return form
    return _Format("libx264", "mp4", form.size, form.fps, _X264, form.turned)


def _encode(path: Path, form: _Format, scenes: list[tuple[str, int, int]], seed: list[int]) -> None:
    width, height = form.size
    with av.open(str(path), "w") as container:
        stream = container.add_stream(form.codec, rate=form.fps, options=dict(form.options))
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = (height, width) if form.turned else (width, height)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 2
        stream.time_base = Fraction(1, form.fps)
        for number, (label, first, last) in enumerate(scenes):
            for pixels, held in _moving(label, form, last - first, [*seed, number]):
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(np.rot90(pixels)) if form.turned else pixels,
                    format="rgb24",
                ).reformat(format="yuv420p")
                for at in held:
                    frame.pts = first + at
                    frame.time_base = Fraction(1, form.fps)
                    container.mux(encoded(stream, frame))
        container.mux(encoded(stream, None))
    if form.turned:
        _mark_turned(path)


def _moving(
    label: str, form: _Format, frames: int, seed: list[int]
) -> Iterator[tuple[Pixels, range]]:
    """The pictures of one scene, each with the frame numbers in the scene that show it."""
    width, height = form.size
    attempt = next(
        tries
        for tries in range(50)
        if label in compose(np.random.default_rng([*seed, tries]), [label], (height, width))[1]
    )
    hold = max(1, round(form.fps / _HELD_FPS))
    for start in range(0, frames, hold):
        rng = np.random.default_rng([*seed, attempt])
        pixels, _ = compose(rng, [label], (height, width), t=start / frames)
        yield pixels, range(start, min(start + hold, frames))


def _mark_turned(path: Path) -> None:
    """Write a quarter turn into the track header, so that players show the clip upright.

    PyAV offers no way to set a display matrix, so the matrix of the one video track (ISO/IEC
    14496-12, 8.3.2 Track Header Box, version 0) is changed in the file.
    """
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    if data[header] != 0:
        raise ConfigError(f"{path.name}: unexpected track header version {data[header]}")
    matrix = header + 4 + 20 + 8 + 8
    one, minus, unit = b"\x00\x01\x00\x00", b"\xff\xff\x00\x00", b"\x40\x00\x00\x00"
    none = b"\x00\x00\x00\x00"
    data[matrix : matrix + 36] = none + one + none + minus + none + none + none + none + unit
    path.write_bytes(bytes(data))


def _write_manifest(directory: Path, clips: list[SampleClip]) -> None:
    pq.write_table(
        pa.table(
            {
                "clip_id": [clip.clip_id for clip in clips],
                "uri": [str(clip.path.resolve()) for clip in clips],
                "expected": pa.array(
                    [list(clip.expected) for clip in clips], pa.list_(pa.string())
                ),
            }
        ),
        directory / "manifest.parquet",
    )
    rows = [
        {
            "clip_id": clip.clip_id,
            "file": clip.path.name,
            "duration_s": clip.duration_s,
            "expected": list(clip.expected),
            "truth": [asdict(part) for part in clip.truth],
        }
        for clip in clips
    ]
    text = json.dumps({"clips": rows}, indent=1)
    (directory / "truth.json").write_text(text + "\n", encoding="utf-8")
