"""EXIF's one tag that changes a picture: how to turn it upright.

Reads the first directory of a TIFF block, within its bounds. Whatever is broken there means
upright, as in browsers: a still is never refused for its metadata.
"""

from __future__ import annotations

from typing import Literal

from reelsight.media.jpeg_segments import EXIF, header_segments
from reelsight.media.orientation import UPRIGHT, Orientation

__all__ = ["orientation_in_exif", "orientation_in_jpeg"]

_TAG = 274
# TIFF 6.0, tag 274: where the first row and the first column of the coded picture lie.
_TURNS = {
    2: Orientation(False, flip_rows=False, flip_columns=True),
    3: Orientation(False, flip_rows=True, flip_columns=True),
    4: Orientation(False, flip_rows=True, flip_columns=False),
    5: Orientation(True, flip_rows=False, flip_columns=False),
    6: Orientation(True, flip_rows=False, flip_columns=True),
    7: Orientation(True, flip_rows=True, flip_columns=True),
    8: Orientation(True, flip_rows=True, flip_columns=False),
}
_PREFIX = b"Exif\0\0"


def orientation_in_exif(block: bytes) -> Orientation:
    """Orientation by an EXIF block, with or without its `Exif` prefix."""
    tiff = block.removeprefix(_PREFIX)
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return UPRIGHT
    order: Literal["little", "big"] = "little" if tiff[:1] == b"I" else "big"
    first = int.from_bytes(tiff[4:8], order) + 2
    entries = int.from_bytes(tiff[first - 2 : first], order)
    for at in range(first, min(first + 12 * entries, len(tiff)), 12):
        if int.from_bytes(tiff[at : at + 2], order) == _TAG:
            return _TURNS.get(int.from_bytes(tiff[at + 8 : at + 10], order), UPRIGHT)
    return UPRIGHT


def orientation_in_jpeg(data: bytes) -> Orientation:
    """Orientation by a JPEG's first EXIF segment."""
    for marker, payload in header_segments(data):
        if marker == EXIF and payload.startswith(_PREFIX):
            return orientation_in_exif(payload)
    return UPRIGHT
