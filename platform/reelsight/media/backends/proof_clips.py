"""Small clips made at start-up, whose pictures carry their number: what backends are tried on.

Made with PyAV's own encoders, so that nothing is shipped and nothing can be missing from an
installation. It knows no backend.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.error import FFmpegError

__all__ = ["ProofClip", "hues_shown", "number_shown", "proof_clips"]

# A hardware decoder of HEVC takes no less than 144 either way.
_WIDTH, _HEIGHT, _COUNT = 192, 144, 48
_DARK, _BRIGHT = 40, 215
_HUES = ((200, 50, 50), (50, 180, 60), (40, 60, 200), (190, 140, 110))
_EVEN = tuple(range(0, 40 * _COUNT, 40))
_UNEVEN = tuple(40 * k + (17 * k) % 37 for k in range(_COUNT))


@dataclass(frozen=True, slots=True)
class ProofClip:
    """A clip by name, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class _Recipe:
    stamps: tuple[int, ...] = _EVEN
    codec: str = "libx264"
    options: tuple[tuple[str, str], ...] = (("preset", "veryfast"), ("bf", "3"), ("g", "12"))
    matrix: int = 6
    span: int = 1
    turned: bool = False
    container: str = "mp4"


_X265 = (("preset", "ultrafast"), ("x265-params", "log-level=none:open-gop=0:keyint=12"))
_RECIPES = {
    "B-frames": _Recipe(),
    "uneven stamps": _Recipe(stamps=_UNEVEN, container="matroska"),
    "BT.709, full range": _Recipe(matrix=1, span=2),
    "turned": _Recipe(turned=True),
    "HEVC": _Recipe(codec="libx265", options=_X265, matrix=1),
}


def proof_clips() -> tuple[ProofClip, ...]:
    """Encode the clips, some tenths of a second in all.

    Raises:
        LookupError: This PyAV cannot encode one of them.
    """
    try:
        return tuple(ProofClip(name, _encoded(recipe)) for name, recipe in _RECIPES.items())
    except (FFmpegError, ValueError) as error:
        raise LookupError(f"PyAV cannot make the clips to try it on: {error}") from error


def number_shown(picture: npt.NDArray[np.uint8]) -> int:
    """The number in an upright picture uint8 [H, W, 3] of any size from 32 on."""
    height, width = picture.shape[:2]
    row = picture[height // 4].astype(float).mean(axis=1)
    bits = row[(np.arange(8) * 2 + 1) * width // 16] > (_DARK + _BRIGHT) / 2
    return int(sum(1 << k for k, bit in enumerate(bits) if bit))


def hues_shown(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """RGB float64 [8, 3] at the middles of the hues, which lie below the bits."""
    height, width = picture.shape[:2]
    x = (np.arange(8) * 2 + 1) * width // 16
    rows = picture[height * 5 // 8 : height * 7 // 8].astype(np.float64).mean(axis=0)
    return np.asarray((rows[x - 1] + rows[x] + rows[x + 1]) / 3)


def _picture(number: int, turned: bool) -> npt.NDArray[np.uint8]:
    """Eight blocks for the bits above four hues, as it is coded."""
    size = (_WIDTH, _HEIGHT) if turned else (_HEIGHT, _WIDTH)
    bits = [_BRIGHT if number >> k & 1 else _DARK for k in range(8)]
    top = np.repeat(np.array(bits, np.uint8)[:, None], 3, axis=1)
    cells = np.stack([top, np.repeat(np.array(_HUES, np.uint8), 2, axis=0)])
    upright = cells[np.arange(size[0]) * 2 // size[0]][:, np.arange(size[1]) * 8 // size[1]]
    return np.ascontiguousarray(np.rot90(upright) if turned else upright)


def _encoded(recipe: _Recipe) -> bytes:
    sink = io.BytesIO()
    with av.open(sink, "w", format=recipe.container) as container:
        stream: Any = container.add_stream(
            recipe.codec, rate=Fraction(25), options=dict(recipe.options)
        )
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        stream.codec_context.colorspace = recipe.matrix
        stream.codec_context.color_range = recipe.span
        if recipe.turned:
            stream.set_display_rotation(-90)
        for number, stamp in enumerate(recipe.stamps):
            image = _picture(number, recipe.turned)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace={6: 5, 1: 1}[recipe.matrix],
                dst_color_range=recipe.span,
            )
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return sink.getvalue()
