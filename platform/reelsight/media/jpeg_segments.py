"""The segments of a JPEG's first picture: markers and payloads, nothing decoded.

What the payloads mean is for others to know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["ADOBE", "EXIF", "count_scans", "header_segments"]

EXIF, ADOBE = 0xE1, 0xEE
_START_OF_SCAN, _END = 0xDA, 0xD9
_BARE = (0x01, 0xD8)  # TEM and SOI have no payload.
# Coded data holds no marker but restarts (D0..D7): after FF it always stuffs a zero.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")


def header_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and payload (at most 65,533 bytes) of each segment before the first scan."""
    for marker, start, end in _segments(data):
        if marker == _START_OF_SCAN:
            return
        yield marker, data[start:end]


def count_scans(data: bytes) -> int:
    """Passes over the first picture, without thumbnails in its metadata or what follows it."""
    return sum(marker == _START_OF_SCAN for marker, _, _ in _segments(data))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, and where its payload begins and ends; garbage between is skipped, as by libjpeg."""
    at = 2
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _END:
            return
        if marker in _BARE:
            continue
        end = at + max(2, int.from_bytes(data[at : at + 2], "big"))
        yield marker, at + 2, end
        at = end
