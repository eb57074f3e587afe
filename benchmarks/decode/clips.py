"""The clips of the decode benchmark: real files as they are, and longer ones made from them.

What is made is 720p and 1080p, 20 s of real footage each, in the shapes in which videos come:
x264 with keyframes every two and every ten seconds, HEVC and AV1, all with pictures out of order.
Nothing made here is ever committed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av import VideoFrame

from benchmarks.footage import Coding, encode

__all__ = ["MADE", "MadeClip", "make_clips", "make_still_clip"]

_STREET = "street_30s_h264.mp4"


@dataclass(frozen=True, slots=True)
class MadeClip:
    """One clip to make.

    Attributes:
        name: Its file's stem.
        coding: What its stream is like.
        seconds: Length.
        footage: File that its pictures come from.
    """

    name: str
    coding: Coding
    seconds: int = 20
    footage: str = _STREET


_X264 = {"preset": "medium", "crf": "23", "bf": "3"}
_X265 = {"preset": "fast", "crf": "26", "x265-params": "bframes=4:log-level=error"}
_SVT = {"preset": "8", "crf": "35"}
MADE = (
    MadeClip("720p-x264-gop48", Coding("libx264", 1280, 720, 48, _X264)),
    MadeClip("720p-x264-gop250", Coding("libx264", 1280, 720, 250, _X264)),
    MadeClip("720p-hevc-gop48", Coding("libx265", 1280, 720, 48, _X265)),
    MadeClip("720p-hevc-gop250", Coding("libx265", 1280, 720, 250, _X265)),
    MadeClip("720p-av1-gop48", Coding("libsvtav1", 1280, 720, 48, _SVT)),
    MadeClip("720p-av1-gop250", Coding("libsvtav1", 1280, 720, 250, _SVT)),
    MadeClip("1080p-x264-gop48", Coding("libx264", 1920, 1080, 48, _X264)),
    MadeClip("1080p-x264-gop250", Coding("libx264", 1920, 1080, 250, _X264)),
)


def make_clips(made: tuple[MadeClip, ...], footage: Path, directory: Path) -> list[Path]:
    """Encode the clips that are not there yet.

    Args:
        made: Which.
        footage: Directory that holds the source videos.
        directory: Where they go.

    Returns:
        Their paths, in order.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for clip in made:
        path = directory / f"{clip.name}.mp4"
        if not path.exists():
            print(f"making {path.name}", flush=True)
            encode(footage / clip.footage, path, clip.coding, clip.seconds)
        paths.append(path)
    return paths


def make_still_clip(path: Path) -> Path:
    """A clip of one small picture: what a contender decodes before it is measured."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        output.mux(stream.encode(VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8))))
        output.mux(stream.encode(None))
    return path
