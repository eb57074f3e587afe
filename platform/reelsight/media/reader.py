"""FrameReader: the frames of one stream in display order, on the clip's clock, until they stop.

It decides what a time stamp means and what a failure means. It scales nothing and samples nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from av import VideoFrame
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from reelsight.errors import MediaError
from reelsight.media.container import Source
from reelsight.media.limits import MediaLimits, over_limit
from reelsight.media.shortcut import Shortcut
from reelsight.media.timeline import tick

__all__ = ["FrameReader"]

_GUESSED_FRAME_S = 0.04


class FrameReader:
    """Decodes a source once, from its first frame on, whole or along a shortcut.

    With `passing`, a whole pass leaves out the pictures that FFmpeg's NONREF does.

    Time stamps: t = 0 is the first frame's. A frame without a pts takes its packet's dts, else the
    previous time and one frame's duration. A stamp that runs backwards is lifted to its
    predecessor's, so the later frame is the one on display from then on. Frames that the decoder
    itself marks as corrupt are not shown, as players do.

    Attributes:
        first: Ticks of the first frame shown, once there is one.
        end_s: Seconds: where the last frame given out goes off display.
        stopped: The message, when decoding broke off; None at a proper end.
        packets: Coded pictures read.
        step_s: Seconds that a frame is taken to last where neither it nor the file says.
    """

    def __init__(
        self,
        source: Source,
        limits: MediaLimits,
        shortcut: Shortcut | None = None,
        passing: bool = False,
    ) -> None:
        self.first: int | None = shortcut.first if shortcut else None
        self._shortcut = shortcut
        self._passing = passing
        self.end_s = 0.0
        self.stopped: str | None = None
        self.packets = 0
        self._source = source
        self._limits = limits
        self._tick = float(tick(source.stream))
        rate = source.stream.average_rate
        self.step_s = float(1 / rate) if rate else _GUESSED_FRAME_S
        self._last_s = 0.0

    def __iter__(self) -> Iterator[tuple[float, VideoFrame]]:
        """Seconds since the first frame, never falling, and the decoded frame.

        Raises:
            MediaError: `media.damaged` when the decoder refuses a picture that is not the last
                and the limits say so; `media.over_limit` past a cap no header told.
        """
        if self._shortcut is not None:
            yield from self._along(self._shortcut)
            return
        if self._passing:
            self._source.stream.codec_context.skip_frame = "NONREF"
        packets = self._demux()
        for packet in packets:
            try:
                frames = packet.decode()
            except FFmpegError as error:
                yield from self._broke_off(error, packets)
                return
            yield from self._given(frames)

    def _along(self, shortcut: Shortcut) -> Iterator[tuple[float, VideoFrame]]:
        """The frames that a shortcut's steps give; a decoder's error goes to who took it."""
        stream = self._source.stream
        context = stream.codec_context
        asked = None
        for step in shortcut.steps:
            if step.restart:
                yield from self._given(stream.decode(None))
                context.flush_buffers()
            if step.needed is not asked:
                asked = step.needed
                context.skip_frame = "DEFAULT" if asked else "NONREF"
            yield from self._given(step.packet.decode())
        yield from self._given(stream.decode(None))

    def _given(self, frames: list[VideoFrame]) -> Iterator[tuple[float, VideoFrame]]:
        for frame in frames:
            if not frame.is_corrupt:
                yield self._clocked(frame), frame

    def _demux(self) -> Iterator[Packet[VideoStream]]:
        """Packets, then the empty one that drains the decoder; a demuxer's error ends them."""
        try:
            for packet in self._source.packets():
                self.packets += bool(packet.size)
                if self.packets > self._limits.max_packets:
                    cap = self._limits.max_packets
                    raise over_limit("frames", self.packets, cap, "max_packets")
                yield packet
        except FFmpegError as error:
            self.stopped = f"demuxer: {error.strerror}"

    def _broke_off(
        self, error: FFmpegError, packets: Iterator[Packet[VideoStream]]
    ) -> Iterator[tuple[float, VideoFrame]]:
        """Give out the good frames still in the decoder, then say what the failure was."""
        at = self.packets
        self.stopped = f"decoder: {error.strerror} at coded picture {at}"
        more = any(packet.size for packet in packets)
        if more and self._limits.damage == "refuse":
            raise MediaError(
                f"coded picture {at} is damaged and more follow: {error.strerror}",
                code="media.damaged",
                hint="Upload it again; or set media.limits.damage=partial to tag what comes first.",
            ) from error
        yield from self._given(self._drained())

    def _drained(self) -> list[VideoFrame]:
        try:
            return self._source.stream.decode(None)
        except FFmpegError:
            return []

    def _clocked(self, frame: VideoFrame) -> float:
        """Seconds of a frame on the clip's clock; moves the clock on."""
        stamp = frame.pts if frame.pts is not None else frame.dts
        if self.first is None:
            self.first = stamp or 0
            at = 0.0
        elif stamp is None:
            at = round(self.end_s, 6)
        else:
            at = max(self._last_s, (stamp - self.first) * self._tick)
        if at > self._limits.max_duration_s:
            cap = self._limits.max_duration_s
            raise over_limit("duration (s)", at, cap, "max_duration_s")
        self._last_s = at
        self.end_s = at + (frame.duration * self._tick or self.step_s)
        return at
