"""Shortcuts: the same sampled frames from fewer decoded pictures.

The packets of a whole clip tell, without decoding, which pictures are on display at the times asked
for. Coded pictures that no other refers to are passed over unless they are asked for, and whatever
lies before a picture at which the decoder can start afresh is dropped when nothing of it is asked
for. What comes out is bit for bit what a pass over everything gives. Where the packets do not tell
for certain there is no shortcut, and whoever follows one checks that it gave what it promised.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from reelsight.media.container import Source
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling, on_display, target_count, target_times
from reelsight.media.timeline import header_end, slack_s, tick

__all__ = ["Shortcut", "Step", "find_shortcut"]

# Packets are held in memory beside the file they were read from.
_MAX_BYTES = 256 << 20
_H264_IDR = 5
_HEVC_IRAP = range(16, 22)
# In these a keyframe resets the decoder entirely.
_KEY_RESETS = ("vp8", "vp9", "av1")
_PROGRESSIVE = (0, 1)  # AVFieldOrder: unknown, progressive.


@dataclass(frozen=True, slots=True)
class Step:
    """One coded picture to give to the decoder.

    Attributes:
        packet: The coded picture.
        restart: Drain and empty the decoder before it.
        needed: False when it matters only if others refer to it.
    """

    packet: Packet[VideoStream]
    restart: bool
    needed: bool


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A way through a clip.

    Attributes:
        steps: In decoding order.
        first: Ticks of the first frame on display.
        end: Ticks at which the clip ends.
        promised: pts in ticks of the frames that must come out for the times asked for, ascending.
    """

    steps: tuple[Step, ...]
    first: int
    end: int
    promised: tuple[int, ...]


def find_shortcut(source: Source, sampling: Sampling, limits: MediaLimits) -> Shortcut | None:
    """The way through a clip for a sampling, or None where only the whole way is certain.

    Reads the source's packets to their end, so the source is spent where None is returned.

    Args:
        source: An open container at its start.
        sampling: Which times are asked for.
        limits: Caps; what is over one is left to the whole way, which says so.
    """
    if source.cut_short or source.container.size > _MAX_BYTES:
        return None
    packets = _listed(source, limits)
    if packets is None or not _plain(packets, source):
        return None
    shown = sorted(p.pts for p in packets if p.pts is not None and not p.is_discard)
    first, end = shown[0], header_end(source) or _end(packets, source)
    unit = float(tick(source.stream))
    end_s = (end - first) * unit
    if not 0 < end_s <= limits.max_duration_s:
        return None
    if target_count(sampling, end_s) > limits.max_frames:
        return None
    seconds = (np.array(shown) - first) * unit
    found = on_display(seconds, list(target_times(sampling, end_s)), slack_s(source.stream))
    promised = tuple(shown[i] for i in sorted(set(found)))
    return Shortcut(tuple(_steps(packets, set(promised), source)), first, end, promised)


def _listed(source: Source, limits: MediaLimits) -> list[Packet[VideoStream]] | None:
    packets: list[Packet[VideoStream]] = []
    try:
        for packet in source.packets():
            if packet.size:
                packets.append(packet)
            if len(packets) > limits.max_packets:
                return None
    except FFmpegError:
        return None
    return packets


def _plain(packets: list[Packet[VideoStream]], source: Source) -> bool:
    """Whether every picture has a stamp of its own and the clip opens with a keyframe."""
    if source.codec not in ("h264", "hevc", *_KEY_RESETS):
        return False
    if not packets or not packets[0].is_keyframe or any(p.is_corrupt for p in packets):
        return False
    stamps = [p.pts for p in packets]
    if None in stamps or len(set(stamps)) < len(stamps):
        return False
    shown = [p.pts for p in packets if not p.is_discard]
    opening = packets[0].pts
    return (
        bool(shown) and opening is not None and opening <= min(p for p in stamps if p is not None)
    )


def _end(packets: list[Packet[VideoStream]], source: Source) -> int:
    rate = source.stream.average_rate
    step = round(1 / rate / tick(source.stream)) if rate else 0
    return max((p.pts or 0) + (p.duration or step) for p in packets if not p.is_discard)


def _steps(
    packets: list[Packet[VideoStream]], promised: set[int], source: Source
) -> Iterator[Step]:
    """Walk in decoding order; jump to the last fresh start before the next promised picture."""
    wanted = [i for i, packet in enumerate(packets) if packet.pts in promised]
    starts = [i for i in _fresh_starts(packets, source) if _clean(packets, wanted, i)]
    passing = _may_pass_over(source)
    at = 0
    for goal in wanted:
        start = max((s for s in starts if at < s <= goal), default=None)
        if start is not None:
            yield Step(packets[start], restart=True, needed=not passing or start == goal)
            at = start + 1
        for i in range(at, goal + 1):
            yield Step(packets[i], restart=False, needed=not passing or i == goal)
        at = max(at, goal + 1)


def _clean(packets: list[Packet[VideoStream]], wanted: list[int], start: int) -> bool:
    """Whether nothing promised follows a start in the file and precedes it on display."""
    stamp = packets[start].pts or 0
    return all((packets[i].pts or 0) >= stamp for i in wanted if i > start)


def _fresh_starts(packets: list[Packet[VideoStream]], source: Source) -> list[int]:
    """Indices of pictures from which on everything on display later can be decoded."""
    keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
    if source.codec in _KEY_RESETS:
        return keys
    return [i for i in keys if _resets(bytes(packets[i]), source)]


def _resets(data: bytes, source: Source) -> bool:
    """Whether an H.264 picture is an IDR, or an HEVC picture an IRAP: a keyframe flag says less."""
    for header in _nal_headers(data, source):
        if source.codec == "h264" and header & 0x1F == _H264_IDR:
            return True
        if source.codec == "hevc" and header >> 1 & 0x3F in _HEVC_IRAP:
            return True
    return False


def _nal_headers(data: bytes, source: Source) -> Iterator[int]:
    """First byte of each NAL unit of a length-prefixed or an Annex B packet."""
    extra = source.stream.codec_context.extradata or b""
    where = {"h264": 4, "hevc": 21}[source.codec]
    if extra[:1] != b"\x01" or len(extra) <= where:
        yield from (data[i + 3] for i in _start_codes(data) if i + 3 < len(data))
        return
    width, at = (extra[where] & 3) + 1, 0
    while at + width < len(data):
        size = int.from_bytes(data[at : at + width], "big")
        yield data[at + width]
        at += width + size


def _start_codes(data: bytes) -> Iterator[int]:
    at = data.find(b"\0\0\1")
    while at >= 0:
        yield at
        at = data.find(b"\0\0\1", at + 3)


def _may_pass_over(source: Source) -> bool:
    """Whether FFmpeg's NONREF leaves out only what nothing else refers to.

    True of H.264, whose NAL header says so of each picture, unless fields are coded apart. True of
    HEVC only in a stream of one temporal layer: with several, pictures of higher layers may refer
    to what their own layer calls unreferenced.
    """
    context = source.stream.codec_context
    if source.codec == "h264":
        return int(context.field_order) in _PROGRESSIVE
    extra = context.extradata or b""
    return source.codec == "hevc" and len(extra) > 21 and extra[0] == 1 and extra[21] >> 3 & 7 == 1
