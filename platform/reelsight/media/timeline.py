"""Where a clip ends, on the container's own clock.

Headers are believed only where they can be checked against the index they carry; else the packets
are counted. No picture is decoded here.
"""

from __future__ import annotations

from fractions import Fraction

import av
from av.error import FFmpegError
from av.video.stream import VideoStream

from reelsight.media.container import Source, open_source
from reelsight.media.limits import MediaLimits, over_limit

__all__ = ["claimed_end", "header_end", "measured_end", "slack_s", "tick"]

_MAX_SLACK_S = 0.0005
_MPEG_TICK = Fraction(1, 90000)


def tick(stream: VideoStream) -> Fraction:
    """Length in seconds of one unit of the stream's time stamps."""
    return stream.time_base or _MPEG_TICK


def slack_s(stream: VideoStream) -> float:
    """How much later than its true time a stamp may read: half a tick, at most half a millisecond.

    Matroska rounds to milliseconds, so the frame of 2/3 s is stamped 0.667.
    """
    return min(float(tick(stream)) / 2, _MAX_SLACK_S)


def header_end(source: Source) -> int | None:
    """End of the stream in ticks by its header, or None where the header cannot be trusted.

    Only an MP4/MOV sample table is exact. Its duration must cover the table's own time stamps and
    not exceed them by more than ten mean frames and a second.
    """
    stream, entries = source.stream, source.stream.index_entries
    if source.demuxer != "mov" or not stream.frames or not stream.duration or not len(entries):
        return None
    span = entries[len(entries) - 1].timestamp - entries[0].timestamp
    room = 10 * span // len(entries) + int(1 / tick(stream))
    if not span <= stream.duration <= span + room:
        return None
    return (stream.start_time or 0) + stream.duration


def claimed_end(source: Source) -> int | None:
    """End of the whole container in ticks by its header, right or wrong; None where unsaid."""
    container = source.container
    if not container.duration:
        return None
    seconds = (container.duration + (container.start_time or 0)) / av.time_base
    return round(seconds / tick(source.stream))


def measured_end(data: bytes, limits: MediaLimits) -> int | None:
    """End of the stream in ticks by reading all packets, or None when there are none.

    Packets without a pts (raw elementary streams) last one frame of the header's rate each.

    Raises:
        MediaError: `media.over_limit` when there are more packets than allowed.
    """
    end: int | None = None
    with open_source(data, limits) as source:
        rate = source.stream.average_rate or Fraction(25)
        step = round(1 / rate / tick(source.stream))
        try:
            for number, packet in enumerate(source.packets()):
                if number > limits.max_packets:
                    raise over_limit("frames", number, limits.max_packets, "max_packets")
                if packet.size and not packet.is_discard:
                    start = number * step if packet.pts is None else packet.pts
                    end = max(end or 0, start + (packet.duration or step))
        except FFmpegError:
            # The tail is missing: what was read up to here is the clip, and decoding will say so.
            return end
    return end
