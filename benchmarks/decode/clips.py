"""The clips of the decode benchmark: real files as they are, and longer ones made from them.

What is made is 720p and 1080p, 20 s of real footage each, in the shapes in which videos come:
x264 with keyframes every two and every ten seconds, HEVC and AV1, all with pictures out of order.
Nothing made here is ever committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import av
import numpy as np
from av import VideoFrame
from av.video.frame import PictureType
from av.video.stream import VideoStream

__all__ = ["MADE", "MadeClip", "make_clips", "make_still_clip"]

# FFmpeg's numbers of BT.709 and of limited range: named in the stream, so that every decoder turns
# the same YUV into the same RGB.
_BT709, _LIMITED = 1, 1
_STREET = "street_30s_h264.mp4"


@dataclass(frozen=True, slots=True)
class MadeClip:
    """One clip to make.

    Attributes:
        name: Its file's stem.
        encoder: PyAV's name of the encoder.
        width: Pixels.
        height: Pixels.
        gop: Most pictures from one keyframe to the next.
        options: The encoder's.
        seconds: Length.
        footage: File that its pictures come from.
    """

    name: str
    encoder: str
    width: int
    height: int
    gop: int
    options: dict[str, str] = field(default_factory=dict)
    seconds: int = 20
    footage: str = _STREET


_X264 = {"preset": "medium", "crf": "23", "bf": "3"}
_X265 = {"preset": "fast", "crf": "26", "x265-params": "bframes=4:log-level=error"}
_SVT = {"preset": "8", "crf": "35"}
MADE = (
    MadeClip("720p-x264-gop48", "libx264", 1280, 720, 48, _X264),
    MadeClip("720p-x264-gop250", "libx264", 1280, 720, 250, _X264),
    MadeClip("720p-hevc-gop48", "libx265", 1280, 720, 48, _X265),
    MadeClip("720p-hevc-gop250", "libx265", 1280, 720, 250, _X265),
    MadeClip("720p-av1-gop48", "libsvtav1", 1280, 720, 48, _SVT),
    MadeClip("720p-av1-gop250", "libsvtav1", 1280, 720, 250, _SVT),
    MadeClip("1080p-x264-gop48", "libx264", 1920, 1080, 48, _X264),
    MadeClip("1080p-x264-gop250", "libx264", 1920, 1080, 250, _X264),
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
            draft = path.with_suffix(".draft.mp4")
            _encode(footage / clip.footage, clip, draft)
            draft.rename(path)
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


def _encode(source: Path, clip: MadeClip, target: Path) -> None:
    with av.open(str(target), "w") as output:
        rate = _rate(source)
        stream = cast("VideoStream", output.add_stream(clip.encoder, rate=rate))
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.options = {**clip.options}
        context = stream.codec_context
        context.gop_size = clip.gop
        context.colorspace, context.color_range = _BT709, _LIMITED
        wanted = clip.seconds * rate
        for number, frame in enumerate(_endless(source)):
            if number == wanted:
                break
            scaled = frame.reformat(
                clip.width,
                clip.height,
                "yuv420p",
                dst_colorspace="ITU709",
                dst_color_range="MPEG",
                interpolation="BICUBIC",
            )
            scaled.pts, scaled.time_base = number, 1 / context.framerate
            scaled.pict_type = PictureType.NONE
            output.mux(stream.encode(scaled))
        output.mux(stream.encode(None))


def _rate(source: Path) -> int:
    with av.open(str(source)) as container:
        return round(container.streams.video[0].average_rate or 25)


def _endless(source: Path) -> Iterator[VideoFrame]:
    """Frames of a file, over and over."""
    while True:
        with av.open(str(source)) as container:
            yield from container.decode(video=0)
