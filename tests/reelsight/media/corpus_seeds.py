"""The sound files that a hostile corpus is made from: every codec and container that opens, stills.

All of them are grey, so that a coloured picture can only come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from tests.reelsight.media.made_clips import Recipe, encode, even
from tests.reelsight.media.made_stills import encoded, exif_of, numbered_image

_X264 = (("preset", "fast"), ("bf", "2"), ("g", "12"))
_X265 = (("preset", "ultrafast"), ("x265-params", "log-level=none:keyint=12"))
_VPX = (("deadline", "realtime"), ("cpu-used", "8"), ("g", "12"))
_AV1 = (("preset", "12"), ("g", "12"), ("svtav1-params", "lp=1"))
_FIRST = (("movflags", "faststart"),)
_FRAGMENTS = (("movflags", "frag_keyframe+empty_moov"),)


def _clip(container: str, codec: str, options: Any, **more: Any) -> Callable[[], bytes]:
    more = {"width": 96, "height": 64, **more}
    recipe = Recipe(even(24, 1), 25, codec, container, options=options, **more)
    return lambda: encode(recipe)


def _still(kind: str, mode: str = "RGB", **options: Any) -> Callable[[], bytes]:
    return lambda: encoded(numbered_image(45_001).convert(mode), kind, **options)


def _deep() -> bytes:
    grey = np.asarray(numbered_image(45_001).convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


def _animation(kind: str) -> Callable[[], bytes]:
    return lambda: encoded(
        numbered_image(1), kind, save_all=True, append_images=[numbered_image(2)], duration=40
    )


_MAKERS: dict[str, Callable[[], bytes]] = {
    "h264.mp4": _clip("mp4", "libx264", _X264, audio_s=0.5),
    "h264-first.mp4": _clip("mp4", "libx264", _X264, mux=_FIRST),
    "h264-fragments.mp4": _clip("mp4", "libx264", _X264, mux=_FRAGMENTS),
    "h264.mov": _clip("mov", "libx264", _X264, rotation=90),
    "h264.mkv": _clip("matroska", "libx264", _X264),
    "h264.ts": _clip("mpegts", "libx264", _X264),
    "h264.flv": _clip("flv", "libx264", _X264),
    "h264.264": _clip("h264", "libx264", _X264),
    "h264.vob": _clip("vob", "libx264", _X264),
    "hevc.mp4": _clip("mp4", "libx265", _X265, mux=_FIRST),
    "hevc.mkv": _clip("matroska", "libx265", _X265, pix_fmt="yuv420p10le"),
    "hevc.265": _clip("hevc", "libx265", _X265),
    "vp8.webm": _clip("webm", "libvpx", _VPX),
    "vp9.webm": _clip("webm", "libvpx-vp9", _VPX),
    "vp9.mp4": _clip("mp4", "libvpx-vp9", _VPX, mux=_FIRST),
    "av1.mkv": _clip("matroska", "libsvtav1", _AV1),
    "av1.mp4": _clip("mp4", "libsvtav1", _AV1, mux=_FIRST),
    "mpeg4.avi": _clip("avi", "mpeg4", (("g", "12"),)),
    "mpeg4.mp4": _clip("mp4", "mpeg4", (("g", "12"), ("bf", "2")), mux=_FIRST),
    "baseline.jpg": _still("JPEG"),
    "progressive.jpg": _still("JPEG", progressive=True, exif=exif_of(6)),
    "inks.jpg": _still("JPEG", "CMYK"),
    "rgb.png": _still("PNG"),
    "alpha.png": _still("PNG", "RGBA", exif=exif_of(8)),
    "palette.png": _still("PNG", "P"),
    "deep.png": _deep,
    "animated.png": _animation("PNG"),
    "lossy.webp": _still("WEBP"),
    "lossless.webp": _still("WEBP", "RGBA", lossless=True, exif=exif_of(3)),
    "animated.webp": _animation("WEBP"),
}
SEEDS = tuple(_MAKERS)


@cache
def seed_file(name: str) -> bytes:
    """One of SEEDS, made once a process."""
    return _MAKERS[name]()
