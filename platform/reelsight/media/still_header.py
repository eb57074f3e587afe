"""StillHeader: what a still picture says about itself, and the caps on it, before any decoding.

Reads a few dozen bytes at fixed places; a JPEG's frame header is left to its own library. It knows
no pixels, no orientation and no scaling.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import simplejpeg

from reelsight.errors import MediaError
from reelsight.media.jpeg_segments import count_scans
from reelsight.media.limits import MediaLimits, over_limit
from reelsight.media.magic import StillFormat, still_format
from reelsight.media.video_stream import check_picture, unreadable

__all__ = ["StillHeader", "read_still_header"]

_SQUARE = Fraction(1)
_ANIMATED = 0x02  # The flag in VP8X.
_LOSSY_START = b"\x9d\x01\x2a"


@dataclass(frozen=True, slots=True)
class StillHeader:
    """Facts of a still picture.

    Attributes:
        format: `jpeg`, `png` or `webp`, by the bytes.
        width: Pixels, as coded, before any turning.
        height: Pixels, as coded.
        animated: Whether more pictures follow the first (APNG, animated WebP).
        colours: A JPEG's colour space, such as `YCbCr`, `Gray` or `CMYK`; else empty.
        subsampling: A JPEG's chroma subsampling, such as `420`; else empty.
    """

    format: StillFormat
    width: int
    height: int
    animated: bool = False
    colours: str = ""
    subsampling: str = ""


def read_still_header(data: bytes, limits: MediaLimits) -> StillHeader:
    """Read the header and hold it against the caps.

    Args:
        data: The whole file.
        limits: Caps on bytes, side, area, aspect ratio and JPEG scans.

    Raises:
        MediaError: `media.unrecognised_container` when the bytes are no still; `media.unreadable`
            when the header is damaged; `media.over_limit`.
    """
    if len(data) > limits.max_bytes:
        raise over_limit("size (bytes)", len(data), limits.max_bytes, "max_bytes")
    kind = still_format(data)
    if kind is None:
        raise MediaError(
            f"no known still picture starts with {data[:12]!r}",
            code="media.unrecognised_container",
            hint="Give JPEG, PNG or WebP; the bytes decide, not the file's name.",
        )
    header = {"jpeg": _jpeg, "png": _png, "webp": _webp}[kind](data)
    if header.width <= 0 or header.height <= 0:
        raise unreadable(f"the {kind} header gives no size ({header.width}x{header.height})")
    _check(header, data, limits)
    return header


def _check(header: StillHeader, data: bytes, limits: MediaLimits) -> None:
    if header.format != "jpeg":
        check_picture(header.width, header.height, _SQUARE, limits)
        return
    area, allowed = header.width * header.height / 1e6, limits.max_jpeg_megapixels
    if area > allowed:
        raise over_limit("area (megapixels)", area, allowed, "max_jpeg_megapixels")
    scans = count_scans(data)
    if scans > limits.max_jpeg_scans:
        raise over_limit("scans", scans, limits.max_jpeg_scans, "max_jpeg_scans")
    _check_sides(header, limits)


def _check_sides(header: StillHeader, limits: MediaLimits) -> None:
    """Refuse a JPEG by its sides alone; its area has a cap of its own.

    Raises:
        MediaError: `media.over_limit`.
    """
    longer, shorter = max(header.width, header.height), min(header.width, header.height)
    if longer > limits.max_side:
        raise over_limit("longer side (pixels)", longer, limits.max_side, "max_side")
    if longer > limits.max_aspect * shorter:
        raise over_limit("aspect ratio", longer / shorter, limits.max_aspect, "max_aspect")


def _jpeg(data: bytes) -> StillHeader:
    try:
        height, width, colours, subsampling = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError) as error:
        # A KeyError is how the library meets a colour space that it has no name for.
        raise unreadable(f"the jpeg header cannot be read: {error}") from error
    return StillHeader("jpeg", width, height, colours=colours, subsampling=subsampling)


def _png(data: bytes) -> StillHeader:
    if data[12:16] != b"IHDR" or len(data) < 33:
        raise unreadable("the png header is cut off or not the first chunk")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    return StillHeader("png", width, height, animated=_has_chunk(data, b"acTL", before=b"IDAT"))


def _has_chunk(data: bytes, wanted: bytes, before: bytes) -> bool:
    """Whether a PNG has a chunk of this kind before the first one of that kind."""
    at = 8
    while at + 8 <= len(data) and (kind := data[at + 4 : at + 8]) != before:
        if kind == wanted:
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _webp(data: bytes) -> StillHeader:
    """Sizes as RFC 9649 lays them out: little-endian, in the extended form less one."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise unreadable("the webp header is cut off")
    if kind == b"VP8X":
        width, height = _uint(body[4:7]) + 1, _uint(body[7:10]) + 1
        return StillHeader("webp", width, height, animated=bool(body[0] & _ANIMATED))
    if kind == b"VP8L" and body[0] == 0x2F:
        bits = _uint(body[1:5])
        return StillHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and body[3:6] == _LOSSY_START:
        return StillHeader("webp", _uint(body[6:8]) & 0x3FFF, _uint(body[8:10]) & 0x3FFF)
    raise unreadable(f"the webp header holds {kind!r} in place of a picture")


def _uint(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
