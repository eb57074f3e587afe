"""Real footage, encoded anew to the sizes, lengths and codecs of what is measured.

Nothing made here is ever committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import av
from av import VideoFrame
from av.video.frame import PictureType
from av.video.stream import VideoStream

from reelsight.samples.encoding import encoded

__all__ = ["Coding", "encode", "rate_of"]

# FFmpeg's numbers of matrices and of limited range: named in the stream, so that every decoder
# turns the same YUV into the same RGB.
_MATRICES = {"ITU601": 6, "ITU709": 1}
_LIMITED = 1


@dataclass(frozen=True, slots=True)
class Coding:
    """How pictures become a stream.

    Attributes:
        encoder: PyAV's name of the encoder.
        width: Pixels.
        height: Pixels.
        gop: Most pictures from one keyframe to the next.
        options: The encoder's.
        matrix: Of the YUV, in limited range.
        footage_types: Whether pictures keep the types that they have in the footage; else the
            encoder chooses, and puts keyframes where scenes change.
    """

    encoder: str
    width: int
    height: int
    gop: int
    options: dict[str, str] = field(default_factory=dict)
    matrix: Literal["ITU601", "ITU709"] = "ITU709"
    footage_types: bool = False


def rate_of(source: Path) -> int:
    """Pictures a second of a file, rounded."""
    with av.open(str(source)) as container:
        return round(container.streams.video[0].average_rate or 25)


def encode(source: Path, path: Path, coding: Coding, seconds: int, *, skip: int = 0) -> None:
    """Write a clip, at the rate of its footage; it is there when it is whole.

    Args:
        source: The footage, which is begun again where it ends.
        path: An MP4 file.
        coding: What the stream is like.
        seconds: Length of the clip.
        skip: Pictures of the footage that are passed over first.
    """
    rate = rate_of(source)
    draft = path.with_suffix(f".draft{path.suffix}")
    with av.open(str(draft), "w") as output:
        stream = cast("VideoStream", output.add_stream(coding.encoder, rate=rate))
        stream.width, stream.height, stream.pix_fmt = coding.width, coding.height, "yuv420p"
        stream.options = {**coding.options}
        context = stream.codec_context
        context.gop_size = coding.gop
        context.colorspace, context.color_range = _MATRICES[coding.matrix], _LIMITED
        wanted = seconds * rate
        for number, frame in enumerate(_endless(source, skip)):
            if number == wanted:
                break
            scaled = frame.reformat(
                coding.width,
                coding.height,
                "yuv420p",
                dst_colorspace=coding.matrix,
                dst_color_range="MPEG",
                interpolation="BICUBIC",
            )
            scaled.pts, scaled.time_base = number, 1 / context.framerate
            if not coding.footage_types:
                scaled.pict_type = PictureType.NONE
            output.mux(encoded(stream, scaled))
        output.mux(encoded(stream, None))
    draft.rename(path)


def _endless(source: Path, skip: int) -> Iterator[VideoFrame]:
    """Frames of a file, over and over, without the first `skip` of the first turn."""
    while True:
        with av.open(str(source)) as container:
            for frame in container.decode(video=0):
                if skip:
                    skip -= 1
                    continue
                yield frame
