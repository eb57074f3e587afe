"""Clips of a drifting texture: every picture differs, and motion is worth predicting."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np

from reelsight.samples.encoding import encoded

X265 = "log-level=none:pools=1:"
MOVING: dict[str, dict[str, Any]] = {
    "h264 pyramid": {"options": {"preset": "medium", "bf": "5", "g": "25"}},
    "h264 no B": {"options": {"preset": "fast", "bf": "0", "g": "12"}},
    "h264 open GOP": {
        "options": {"preset": "fast", "x264-params": "open-gop=1:bframes=4:keyint=20"}
    },
    "h264 one key": {"options": {"preset": "fast", "bf": "3", "g": "999"}},
    "h264 fields": {"options": {"preset": "fast", "x264-params": "interlaced=1:keyint=20"}},
    "h264 in Matroska": {
        "options": {"preset": "fast", "bf": "3", "g": "25"},
        "container": "matroska",
    },
    "h264 stream": {"options": {"preset": "fast", "bf": "3", "g": "25"}, "container": "mpegts"},
    "hevc": {
        "codec": "libx265",
        "options": {"preset": "fast", "x265-params": X265 + "keyint=25:bframes=4"},
    },
    "hevc open GOP": {
        "codec": "libx265",
        "options": {"preset": "fast", "x265-params": X265 + "open-gop=1:keyint=20:bframes=4"},
    },
    "hevc layers": {
        "codec": "libx265",
        "options": {
            "preset": "fast",
            "x265-params": X265 + "temporal-layers=3:keyint=25:bframes=7:b-adapt=0",
        },
    },
    "vp8": {"codec": "libvpx", "options": {"deadline": "realtime", "g": "20"}, "container": "webm"},
    "vp9": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "realtime", "cpu-used": "8", "g": "20"},
        "container": "webm",
    },
    "av1": {"codec": "libsvtav1", "options": {"preset": "12", "g": "20", "svtav1-params": "lp=1"}},
    "mpeg4": {"codec": "mpeg4", "options": {"bf": "2", "g": "20"}},
}


@lru_cache(maxsize=32)
def coded(name: str) -> bytes:
    """75 frames of a drifting texture: every picture differs, and motion is worth predicting."""
    recipe = MOVING[name]
    rng = np.random.default_rng(5)
    texture = np.kron(rng.integers(0, 256, (40, 60, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    texture = np.concatenate([texture, texture], axis=1)
    out = io.BytesIO()
    with av.open(out, "w", format=recipe.get("container", "mp4")) as container:
        stream: Any = container.add_stream(
            recipe.get("codec", "libx264"), rate=25, options=recipe["options"]
        )
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for k in range(75):
            picture = np.ascontiguousarray(texture[k : k + 128, 4 * k : 4 * k + 192])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            container.mux(encoded(stream, frame))
        container.mux(encoded(stream, None))
    return out.getvalue()
