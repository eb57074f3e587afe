"""Stills made on the spot: the number blocks of made_clips, and whatever Pillow writes."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.reelsight.media.made_clips import numbered

Picture = npt.NDArray[np.uint8]

# To each orientation of EXIF, what turns an upright picture into the coded one.
CODED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def numbered_image(number: int, width: int = 256, height: int = 96) -> Image.Image:
    return Image.fromarray(numbered(number, width, height))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, packed: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header says whatever it is told; `packed` is its compressed data."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_bomb(width: int, height: int) -> bytes:
    """A valid PNG of black, packed a thousandfold."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    return png_of(
        width, height, b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    )


def resized_jpeg(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose frame header claims another size."""
    at = next(data.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in data)
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def extended_webp(width: int, height: int, flags: int = 0, chunks: bytes = b"") -> bytes:
    """A WebP in the extended form that claims a canvas of this size."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<IB3x", 10, flags) + size + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body
