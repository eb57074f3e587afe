"""What a clip's header says, without decoding more than one frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import av
from av import VideoFrame

from reelsight.errors import MediaError
from reelsight.media.container import Source, open_source
from reelsight.media.limits import MediaLimits
from reelsight.media.orientation import orientation_of
from reelsight.media.reader import FrameReader
from reelsight.media.timeline import tick
from reelsight.media.video_stream import no_frames
from reelsight.nouns.clip import Clip

__all__ = ["Header", "header_of", "nothing_decoded", "probe"]


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of the chosen video stream.

    Attributes:
        demuxer: FFmpeg's name of the container's demuxer.
        codec: FFmpeg's canonical codec name.
        width: Display width in pixels, after rotation.
        height: Display height in pixels, after rotation.
        rotation: Clockwise turn to upright, 0, 90, 180 or 270 degrees.
        pixel_format: FFmpeg's name of the decoded format.
        fps: Average frames per second, or None.
        duration_s: Seconds that the header claims, or None.
        frames: Frames that the header claims, or None.
    """

    demuxer: str
    codec: str
    width: int
    height: int
    rotation: int
    pixel_format: str
    fps: float | None
    duration_s: float | None
    frames: int | None

    def fill(self, clip: Clip, duration_s: float | None = None) -> Clip:
        """The clip with these facts; `duration_s` (seconds) is better than the header's claim."""
        return replace(
            clip,
            duration_s=self.duration_s if duration_s is None else duration_s,
            width=self.width,
            height=self.height,
            codec=self.codec,
            pixel_format=self.pixel_format,
            rotation=self.rotation,
            fps=self.fps,
        )


def probe(data: bytes, limits: MediaLimits) -> Header:
    """Read a clip's header, and its first frame for what only frames tell (rotation, format).

    Args:
        data: The whole file.
        limits: Caps, checked before that frame is decoded.

    Raises:
        MediaError: As `open_source`; `media.no_frames` or `media.undecodable` without a frame.
    """
    with open_source(data, limits) as source:
        reader = FrameReader(source, limits)
        for _, frame in reader:
            return header_of(source, frame)
        raise nothing_decoded(reader)


def header_of(source: Source, frame: VideoFrame) -> Header:
    """The header's facts, completed by a decoded frame."""
    stream = source.stream
    orientation = orientation_of(frame)
    size = (frame.height, frame.width) if orientation.transpose else (frame.width, frame.height)
    return Header(
        demuxer=source.demuxer,
        codec=source.codec,
        width=size[0],
        height=size[1],
        rotation=orientation.degrees,
        pixel_format=frame.format.name,
        fps=float(stream.average_rate) if stream.average_rate else None,
        duration_s=_claimed_duration(source),
        frames=stream.frames or None,
    )


def _claimed_duration(source: Source) -> float | None:
    stream = source.stream
    if stream.duration:
        return float(stream.duration * tick(stream))
    return source.container.duration / av.time_base if source.container.duration else None


def nothing_decoded(reader: FrameReader) -> MediaError:
    """The refusal of a clip whose reader came to its end without a frame."""
    if not reader.packets and reader.stopped is None:
        return no_frames()
    return MediaError(
        f"no frame could be decoded from {reader.packets} coded pictures"
        f" ({reader.stopped or 'the decoder gave none'})",
        code="media.undecodable",
    )
