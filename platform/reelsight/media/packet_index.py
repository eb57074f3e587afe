"""PacketIndex: what the packets of a whole clip tell without decoding one.

Stamps, sizes, which pictures are keyframes, where the decoder can start afresh, which pictures
others refer to. Where the packets do not tell for certain it says why. It chooses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from reelsight.media.container import Source
from reelsight.media.limits import MediaLimits
from reelsight.media.timeline import header_end, tick

__all__ = ["PacketIndex", "Untold", "may_pass_over", "read_index"]

# Packets are held in memory beside the file they were read from.
_MAX_BYTES = 256 << 20
_H264_IDR = 5
_H264_SLICES = range(1, 6)
_HEVC_SLICES = range(32)
_HEVC_IRAP = range(16, 22)
# Sub-layer non-reference pictures: the even types below the reserved ones that end the range.
_HEVC_UNREFERENCED = range(0, 15, 2)
# In these a keyframe resets the decoder entirely.
_KEY_RESETS = ("vp8", "vp9", "av1")
_PROGRESSIVE = (0, 1)  # AVFieldOrder: unknown, progressive.


@dataclass(frozen=True, slots=True)
class Untold:
    """Why the packets of a clip tell too little.

    Attributes:
        reason: For people.
    """

    reason: str


class PacketIndex:
    """The coded pictures of a clip, in decoding order.

    Args:
        source: Where the packets came from.
        packets: All of them, each with a stamp of its own, the first a keyframe.

    Attributes:
        packets: The coded pictures.
        stamps: int64 [N] pts in ticks.
        sizes: int64 [N] bytes.
        keys: bool [N], flagged as keyframes by the container.
        shown: bool [N], False where an edit list hides the picture.
        passing: Whether FFmpeg's NONREF leaves out exactly what nothing else refers to.
        first: Ticks of the first frame on display.
        end: Ticks at which the clip ends.
        unit_s: Seconds of one tick.
    """

    def __init__(self, source: Source, packets: list[Packet[VideoStream]]) -> None:
        self._source = source
        self.packets = packets
        self.stamps = np.array([p.pts for p in packets], np.int64)
        self.sizes = np.array([p.size for p in packets], np.int64)
        self.keys = np.array([p.is_keyframe for p in packets], np.bool_)
        self.shown = np.array([not p.is_discard for p in packets], np.bool_)
        self.passing = may_pass_over(source)
        self.first = int(self.stamps[self.shown].min())
        self.end = header_end(source) or self._last_end()
        self.unit_s = float(tick(source.stream))

    def __len__(self) -> int:
        return len(self.packets)

    @property
    def end_s(self) -> float:
        """Seconds from the first frame on display to the clip's end."""
        return (self.end - self.first) * self.unit_s

    @property
    def codec(self) -> str:
        """FFmpeg's canonical codec name."""
        return self._source.codec

    @cached_property
    def display(self) -> npt.NDArray[np.intp]:
        """Indices, int [M], of the pictures that are shown, in display order."""
        visible = np.flatnonzero(self.shown)
        return visible[np.argsort(self.stamps[visible], kind="stable")]

    @cached_property
    def fresh_starts(self) -> list[int]:
        """Indices of pictures from which on everything on display later can be decoded."""
        keys = [int(i) for i in np.flatnonzero(self.keys)]
        if self.codec in _KEY_RESETS:
            return keys
        return [i for i in keys if _resets(bytes(self.packets[i]), self._source)]

    @cached_property
    def referenced(self) -> npt.NDArray[np.bool_]:
        """Whether others may refer to each picture, bool [N]; all True where that is not told."""
        if not self.passing:
            return np.ones(len(self), np.bool_)
        told = [_referenced(bytes(p), self._source) for p in self.packets]
        return np.array(told, np.bool_) | self.keys

    def seconds(self, stamps: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Ticks of the stream as float64 seconds of the clip's clock."""
        return np.asarray((stamps - self.first) * self.unit_s, np.float64)

    def _last_end(self) -> int:
        rate = self._source.stream.average_rate
        step = round(1 / rate / tick(self._source.stream)) if rate else 0
        return max((p.pts or 0) + (p.duration or step) for p in self.packets if not p.is_discard)


def read_index(source: Source, limits: MediaLimits) -> PacketIndex | Untold:
    """Read all packets of a clip.

    The source is spent afterwards; the packets can still be decoded.

    Args:
        source: An open container at its start.
        limits: Caps; what is over one is only told here, and refused by whoever decodes.
    """
    if source.cut_short:
        return Untold("the file is cut short")
    if source.container.size > _MAX_BYTES:
        return Untold(f"the file is larger than {_MAX_BYTES >> 20} MiB")
    packets: list[Packet[VideoStream]] = []
    try:
        for packet in source.packets():
            if packet.size:
                packets.append(packet)
            if len(packets) > limits.max_packets:
                return Untold("there are more coded pictures than media.limits.max_packets")
    except FFmpegError as error:
        return Untold(f"the demuxer stopped: {error.strerror}")
    doubt = _doubt(packets, source)
    return Untold(doubt) if doubt else PacketIndex(source, packets)


def _doubt(packets: list[Packet[VideoStream]], source: Source) -> str:
    """What keeps the packets from telling for certain; empty where nothing does."""
    if source.codec not in ("h264", "hevc", *_KEY_RESETS):
        return f"packets of {source.codec} do not tell enough"
    if not packets or not packets[0].is_keyframe:
        return "the clip does not open with a keyframe"
    if any(p.is_corrupt for p in packets):
        return "the demuxer calls a coded picture damaged"
    stamps = [p.pts for p in packets if p.pts is not None]
    if len(stamps) < len(packets) or len(set(stamps)) < len(stamps):
        return "coded pictures lack a stamp of their own"
    if stamps[0] > min(stamps):
        return "coded pictures before the first keyframe on display"
    return "" if any(not p.is_discard for p in packets) else "the edit list shows nothing"


def may_pass_over(source: Source) -> bool:
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


def _resets(data: bytes, source: Source) -> bool:
    """Whether an H.264 picture is an IDR, or an HEVC picture an IRAP: a keyframe flag says less."""
    for header in _nal_headers(data, source):
        if source.codec == "h264" and header & 0x1F == _H264_IDR:
            return True
        if source.codec == "hevc" and header >> 1 & 0x3F in _HEVC_IRAP:
            return True
    return False


def _referenced(data: bytes, source: Source) -> bool:
    """Whether a picture's first slice says that others may refer to it."""
    for header in _nal_headers(data, source):
        if source.codec == "h264" and header & 0x1F in _H264_SLICES:
            return bool(header >> 5 & 3)
        if source.codec == "hevc" and header >> 1 & 0x3F in _HEVC_SLICES:
            return header >> 1 & 0x3F not in _HEVC_UNREFERENCED
    return True


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
