"""Clips made on the spot, whose every frame carries its number in its pixels.

A frame is a grid of 8 x 2 blocks, dark or bright: the bits of its number. That survives lossy
coding, scaling and turning, so a sampled picture can be asked which frame it is.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from reelsight.samples.encoding import encoded

# SVT-AV1 prints its settings unless told to print errors only.
os.environ.setdefault("SVT_LOG", "1")

DARK, BRIGHT = 40, 215
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Recipe:
    """How to encode a clip. `stamps` are pts in ticks of 1/`clock` second, in display order."""

    stamps: tuple[int, ...]
    clock: int = 1000
    codec: str = "libx264"
    container: str = "mp4"
    width: int = 128
    height: int = 96
    pix_fmt: str = "yuv420p"
    options: tuple[tuple[str, str], ...] = (("preset", "ultrafast"), ("crf", "18"))
    mux: tuple[tuple[str, str], ...] = ()
    rotation: int = 0
    hflip: bool = False
    sar: Fraction | None = None
    matrix: int | None = None
    full_range: bool = False
    colour: tuple[int, int, int] | None = None
    audio_s: float = 0.0


def numbered(number: int, width: int, height: int) -> Image:
    """RGB picture [height, width, 3] that shows `number`, 0 to 65535."""
    bits = [(number >> k) & 1 for k in range(16)]
    grid = np.array(bits, np.uint8).reshape(2, 8) * (BRIGHT - DARK) + DARK
    rows = np.arange(height) * 2 // height
    columns = np.arange(width) * 8 // width
    return np.repeat(grid[rows][:, columns, None], 3, axis=2).astype(np.uint8)


def number_in(image: Image) -> int:
    """The number shown by a sampled picture of any size."""
    height, width = image.shape[:2]
    y, x = (np.arange(2) * 2 + 1) * height // 4, (np.arange(8) * 2 + 1) * width // 16
    bits = image.astype(float).mean(axis=2)[np.ix_(y, x)].ravel() > (DARK + BRIGHT) / 2
    return int(sum(1 << k for k, bit in enumerate(bits) if bit))


def upside(image: Image, recipe: Recipe) -> Image:
    """The coded picture that a player turns into `image`."""
    mirrored = image[:, ::-1] if recipe.hflip else image
    return np.ascontiguousarray(np.rot90(mirrored, recipe.rotation // 90))


@lru_cache(maxsize=64)
def encode(recipe: Recipe) -> bytes:
    """Encode and mux a recipe."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        _write(str(path), recipe)
        return path.read_bytes()


def _write(path: str, recipe: Recipe) -> None:
    options = dict(recipe.mux)
    with av.open(path, "w", format=recipe.container, container_options=options) as container:
        stream = _video_stream(container, recipe)
        sound = container.add_stream("aac", rate=8000) if recipe.audio_s else None
        for number, stamp in enumerate(recipe.stamps):
            container.mux(encoded(stream, _picture(number, stamp, recipe)))
        container.mux(encoded(stream, None))
        if sound is not None:
            for start in range(0, int(recipe.audio_s * 8000), 1024):
                silence = np.zeros((1, 1024), np.float32)
                chunk = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                chunk.sample_rate, chunk.pts = 8000, start
                container.mux(sound.encode(chunk))
            container.mux(sound.encode(None))


def _video_stream(container: Any, recipe: Recipe) -> Any:
    steps = np.diff(recipe.stamps)
    rate = Fraction(recipe.clock, int(steps.min())) if len(steps) else Fraction(25)
    stream = container.add_stream(recipe.codec, rate=rate, options=dict(recipe.options))
    stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, recipe.pix_fmt
    stream.codec_context.time_base = Fraction(1, recipe.clock)
    stream.time_base = Fraction(1, recipe.clock)
    if recipe.matrix is not None:
        stream.codec_context.colorspace = recipe.matrix
    stream.codec_context.color_range = 2 if recipe.full_range else 1
    if recipe.sar is not None:
        stream.codec_context.sample_aspect_ratio = recipe.sar
    if recipe.rotation or recipe.hflip:
        stream.set_display_rotation(-recipe.rotation, hflip=recipe.hflip)
    return stream


def _picture(number: int, stamp: int, recipe: Recipe) -> av.VideoFrame:
    turned = recipe.rotation in (90, 270)
    width, height = (recipe.height, recipe.width) if turned else (recipe.width, recipe.height)
    image = numbered(number, width, height)
    if recipe.colour is not None:
        image = np.broadcast_to(np.array(recipe.colour, np.uint8), image.shape).copy()
    frame = av.VideoFrame.from_ndarray(upside(image, recipe), format="rgb24").reformat(
        format=recipe.pix_fmt,
        dst_colorspace={None: 5, 1: 1, 6: 5, 9: 9}[recipe.matrix],
        dst_color_range=2 if recipe.full_range else 1,
    )
    frame.pts, frame.time_base = stamp, Fraction(1, recipe.clock)
    return frame


def even(count: int, step: int, start: int = 0) -> tuple[int, ...]:
    """Stamps at a constant rate."""
    return tuple(start + step * k for k in range(count))
