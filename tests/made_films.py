"""Films for marks: a moving crop over a drawn picture, encoded and muxed for real.

They have texture and move, so a mark has somewhere to be; bars, turns, sound and uneven times are
added where a test asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from reelsight.samples.backgrounds import procedural

CLOCK = 12800
Pictures = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Film:
    """How a film is made. Width and height are those on display, `rotation` clockwise degrees."""

    seed: int = 0
    frames: int = 48
    width: int = 320
    height: int = 180
    bars: int = 0
    fps: int = 24
    rotation: int = 0
    audio: bool = False
    uneven: bool = False
    pix_fmt: str = "yuv420p"
    colour: int = 1
    full_range: bool = False
    crf: int = 12
    sar: Fraction = Fraction(1)
    cut_at: int | None = None
    start: int = 0


@lru_cache(maxsize=16)
def pictures(film: Film) -> Pictures:
    """RGB pictures as they are on display, uint8 [n, height, width, 3]."""
    shown = []
    high, wide = film.height - 2 * film.bars, film.width
    for number in range(film.frames):
        cut = film.cut_at is not None and number >= film.cut_at
        whole = _drawn(film.seed + 100 * cut, wide + film.frames, high + film.frames)
        inside = whole[number // 2 : number // 2 + high, number : number + wide]
        picture = np.zeros((film.height, wide, 3), np.uint8)
        picture[film.bars : film.bars + high] = inside
        shown.append(picture)
    return np.stack(shown)


@lru_cache(maxsize=16)
def _drawn(seed: int, width: int, height: int) -> Pictures:
    return procedural(np.random.default_rng([7, seed]), width, height)


def stamps(film: Film) -> list[int]:
    """Pts in ticks of 1 / CLOCK seconds."""
    step = CLOCK // film.fps
    at, found = film.start, []
    for number in range(film.frames):
        found.append(at)
        at += step * (3 if film.uneven and number % 5 == 4 else 1)
    return found


def write_film(path: Path, film: Film) -> Path:
    """Encode and mux; returns the path."""
    return write_pictures(path, film, pictures(film))


def write_pictures(path: Path, film: Film, shown: Pictures) -> Path:
    """Encode and mux pictures in the manner of a film."""
    with av.open(str(path), "w") as out:
        stream = _stream(out, film)
        sound = out.add_stream("aac", rate=48000) if film.audio else None
        for picture, stamp in zip(shown, stamps(film), strict=True):
            coded = np.ascontiguousarray(np.rot90(picture, film.rotation // 90))
            frame = av.VideoFrame.from_ndarray(coded, format="rgb24").reformat(
                format=film.pix_fmt,
                dst_colorspace=film.colour,
                dst_color_range=2 if film.full_range else 1,
            )
            frame.pts, frame.time_base = stamp, Fraction(1, CLOCK)
            frame.duration = CLOCK // film.fps
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            _write_sound(out, sound, stamps(film)[-1] / CLOCK)
    return path


def _stream(out: Any, film: Film) -> Any:
    options = {"preset": "veryfast", "crf": str(film.crf)}
    stream = out.add_stream("libx264", rate=film.fps, options=options)
    turned = film.rotation in (90, 270)
    sides = (film.height, film.width) if turned else (film.width, film.height)
    stream.width, stream.height = sides
    stream.pix_fmt = film.pix_fmt
    context = stream.codec_context
    context.time_base = stream.time_base = Fraction(1, CLOCK)
    context.color_primaries = context.color_trc = context.colorspace = film.colour
    context.color_range = 2 if film.full_range else 1
    context.sample_aspect_ratio = film.sar
    if film.rotation:
        stream.set_display_rotation(-film.rotation)
    return stream


def _write_sound(out: Any, sound: Any, seconds: float) -> None:
    rng = np.random.default_rng(5)
    for start in range(0, int(seconds * 48000), 1024):
        noise = rng.uniform(-0.1, 0.1, (1, 1024)).astype(np.float32)
        chunk = av.AudioFrame.from_ndarray(noise, format="fltp", layout="mono")
        chunk.sample_rate, chunk.pts = 48000, start
        out.mux(sound.encode(chunk))
    out.mux(sound.encode(None))
