"""How long a clip's header says that it is, read from its bytes alone.

Only to choose between an answer now and a job: what is believed of a clip, the decoder's child
finds out. No demuxer is opened here, because the ingress has no child to lose. Sources: ISO/IEC
14496-12 8.2.2 (mvhd) and 8.8.2 (mehd); RFC 9559 5.1.2 (Info).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

__all__ = ["header_seconds"]

_EBML, _SEGMENT, _INFO = b"\x1a\x45\xdf\xa3", 0x18538067, 0x1549A966
_SCALE, _DURATION, _CLUSTER = 0x2AD7B1, 0x4489, 0x1F43B675
_ELEMENTS = 64
_BOXES = 4096


def header_seconds(data: bytes) -> float | None:
    """Duration, seconds, by the header; None where the format is another or does not say.

    Args:
        data: The whole file; MP4, MOV, Matroska and WebM are read.
    """
    view = memoryview(data)
    try:
        seconds = _matroska(view) if data[:4] == _EBML else _iso(view)
    except (struct.error, IndexError, ZeroDivisionError):
        return None
    return seconds if seconds is not None and math.isfinite(seconds) and seconds > 0 else None


def _iso(data: memoryview) -> float | None:
    for kind, body in _boxes(data):
        if kind == b"moov":
            return _movie(body)
    return None


def _movie(moov: memoryview) -> float | None:
    scale = length = 0
    extended = False
    for kind, body in _boxes(moov):
        if kind == b"mvhd":
            at, form = (20, ">IQ") if body[0] == 1 else (12, ">II")
            scale, length = struct.unpack_from(form, body, at)
        elif kind == b"mvex" and not extended:
            # A fragmented file says it here, and 0 in its mvhd. There is one: a file of thousands,
            # each with its thousands, would hold the event loop for seconds.
            extended = True
            for inner, extends in _boxes(body):
                if inner == b"mehd":
                    form = ">Q" if extends[0] == 1 else ">I"
                    length = max(length, *struct.unpack_from(form, extends, 4))
    return length / scale


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    for _ in range(_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        end = len(data) if size == 0 else at + size
        if end < at + head:
            return
        yield kind, data[at + head : end]
        at = end


def _matroska(data: memoryview) -> float | None:
    for kind, body in _elements(data):
        if kind == _SEGMENT:
            for inner, info in _elements(body):
                if inner == _CLUSTER:
                    break
                if inner == _INFO:
                    return _info(info)
    return None


def _info(info: memoryview) -> float | None:
    scale, length = 1_000_000, None
    for kind, body in _elements(info):
        if kind == _SCALE:
            scale = int.from_bytes(body[:8], "big")
        elif kind == _DURATION:
            (length,) = struct.unpack(">f" if len(body) == 4 else ">d", body)
    return None if length is None else float(length) * scale / 1e9


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    at = 0
    for _ in range(_ELEMENTS):
        if at >= len(data):
            return
        kind, width = _number(data, at, marked=True)
        size, more = _number(data, at + width, marked=False)
        at += width + more
        # All ones: the size is not known, and the element runs to the end.
        end = len(data) if size == (1 << 7 * more) - 1 else at + size
        yield kind, data[at:end]
        at = end


def _number(data: memoryview, at: int, *, marked: bool) -> tuple[int, int]:
    """An EBML variable-length integer, with its marker bit or without, and its width."""
    first = data[at]
    width = 9 - first.bit_length()
    if width > 8:
        raise IndexError("no EBML number starts with a zero byte")
    value = int.from_bytes(data[at : at + width], "big")
    return (value if marked else value & ((1 << 7 * width) - 1)), width
