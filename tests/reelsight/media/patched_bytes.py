"""What no muxer writes, patched into the bytes: pieces of an edit list, joined streams."""

from __future__ import annotations

import struct

import numpy as np


def joined(first: bytes, second: bytes) -> bytes:
    """Both one after the other; a transport stream's packets go on counting, as in a recording."""
    if first[0] != 0x47:
        return first + second
    packets = np.frombuffer(first + second, np.uint8).reshape(-1, 188).copy()
    names = (packets[:, 1].astype(int) & 0x1F) << 8 | packets[:, 2]
    for name in np.unique(names):
        rows = np.flatnonzero((names == name) & (packets[:, 3] & 0x10 > 0))
        packets[rows, 3] = packets[rows, 3] & 0xF0 | np.arange(len(rows)) & 0x0F
    return packets.tobytes()


def with_edits(data: bytes, edits: tuple[tuple[int, int], ...]) -> bytes:
    """An MP4 whose index comes last, its first track given these edits (milliseconds).

    Its muxer has written one edit, which starts at the first picture's stamp.
    """
    moov = data.rindex(b"moov") - 4
    head, index = data[:moov], bytearray(data[moov:])
    movie_scale = struct.unpack_from(">I", index, index.index(b"mvhd") + 16)[0]
    media_scale = struct.unpack_from(">I", index, index.index(b"mdhd") + 16)[0]
    at = index.index(b"edts") - 4
    old, zero = struct.unpack_from(">I", index, at)[0], struct.unpack_from(">i", index, at + 28)[0]
    entries = b"".join(
        struct.pack(">IiI", span * movie_scale // 1000, zero + start * media_scale // 1000, 1 << 16)
        for span, start in edits
    )
    elst = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    edts = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    index[at : at + old] = edts
    for name in (b"moov", b"trak"):
        box = index.index(name) - 4
        size = struct.unpack_from(">I", index, box)[0]
        struct.pack_into(">I", index, box, size + len(edts) - old)
    return head + bytes(index)
