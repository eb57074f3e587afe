"""What a file's first bytes say: still or video, who may read it, how long it claims to be.

The demuxer is forced from here. FFmpeg's own guess also looks at names and contents, and would read
a playlist that calls itself `.mp4` and follow it to other files.
"""

from __future__ import annotations

import re
from typing import Literal

from reelsight.errors import MediaError

__all__ = ["StillFormat", "claimed_bytes", "demuxer_for", "is_still", "still_format"]

StillFormat = Literal["jpeg", "png", "webp"]

_MATROSKA = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"
_BOXES = (b"moov", b"mdat", b"moof", b"free", b"skip", b"wide", b"pnot", b"styp", b"sidx")
_STILL_BRANDS = (b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1")
_PREFIXES = ((_MATROSKA, "matroska"), (b"FLV\x01", "flv"), (b"OggS", "ogg"))
# A parameter set or access unit delimiter: what no other codec's raw stream starts with.
_H264 = re.compile(rb"\x00?\x00\x00\x01[\x27\x47\x67\x09]")
_HEVC = re.compile(rb"\x00?\x00\x00\x01[\x40\x46]\x01")


def demuxer_for(data: bytes) -> str:
    """FFmpeg's name of the only demuxer that may read these bytes.

    Args:
        data: A whole file, or at least its first kilobyte.

    Raises:
        MediaError: `media.unrecognised_container` when the bytes are no container we open.
    """
    name = _by_magic(data)
    if name is None:
        raise MediaError(
            f"no known video container starts with {data[:12]!r}",
            code="media.unrecognised_container",
            hint="Give MP4/MOV, Matroska/WebM, AVI, FLV, MPEG-TS/PS, Ogg, or raw H.264/HEVC; "
            "the bytes decide, not the file's name.",
        )
    return name


def still_format(data: bytes) -> StillFormat | None:
    """Which kind of still picture these bytes begin as; None for everything else."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def is_still(data: bytes) -> bool:
    """Whether `media.stills.decode_still` is the one to read these bytes."""
    return still_format(data) is not None


def _by_magic(data: bytes) -> str | None:
    for prefix, name in _PREFIXES:
        if data.startswith(prefix):
            return name
    if data[4:8] == b"ftyp":
        return None if data[8:12] in _STILL_BRANDS else "mov"
    if data[4:8] in _BOXES:
        return "mov"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    if data[:4] == b"\x00\x00\x01\xba":
        return "mpeg"
    if _transport_stream(data):
        return "mpegts"
    if _H264.match(data):
        return "h264"
    return "hevc" if _HEVC.match(data) else None


def _transport_stream(data: bytes) -> bool:
    """Three sync bytes, 188 bytes apart, or 192 with a time code before each packet."""
    return any(
        len(data) > first + 2 * step and all(data[first + k * step] == 0x47 for k in range(3))
        for first, step in ((0, 188), (4, 192))
    )


def claimed_bytes(data: bytes) -> int | None:
    """Size in bytes that the container says it has, or None where the format does not say.

    A claim larger than `len(data)` means that the tail is missing.
    """
    if data[:4] == _MATROSKA:
        return _matroska_bytes(data)
    if data[:4] == b"RIFF":
        return 8 + int.from_bytes(data[4:8], "little")
    return _box_bytes(data) if data[4:8] in (b"ftyp", *_BOXES) else None


def _box_bytes(data: bytes) -> int | None:
    """End of the last top-level box of an ISO media file; a box of size 0 runs to the end."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8 or not data[at + 4 : at + 8].isalnum():
            return None
        at += size
    return at


def _matroska_bytes(data: bytes) -> int | None:
    """End of the Segment element, whose size is an EBML variable-length integer."""
    at = data.find(_SEGMENT, 0, 4096)
    if at < 0 or at + 5 > len(data) or data[at + 4] == 0:
        return None
    length = 9 - data[at + 4].bit_length()
    size = int.from_bytes(data[at + 4 : at + 4 + length], "big") & ((1 << 7 * length) - 1)
    unknown = size == (1 << 7 * length) - 1
    return None if unknown else at + 4 + length + size
