"""What a file is built of: the boxes, elements, chunks and packets that a mutation moves about."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["rebuilt", "siblings"]

Span = tuple[int, int]

_PARENTS = {
    b"moov",
    b"trak",
    b"mdia",
    b"minf",
    b"stbl",
    b"dinf",
    b"edts",
    b"mvex",
    b"moof",
    b"traf",
}
_SEGMENT = b"\x18\x53\x80\x67"


def siblings(name: str, data: bytes) -> list[list[Span]]:
    """Lists of neighbours, each a span of bytes; at least one list of two or more."""
    ending = name.rpartition(".")[2]
    if ending in ("mp4", "mov"):
        groups = [list(group) for group in _boxes(data, 0, len(data))]
    elif ending in ("mkv", "webm"):
        groups = [_elements(data)]
    elif ending in ("avi", "webp"):
        groups = [_chunks(data, 12, "little", 0)]
    elif ending == "png":
        groups = [_chunks(data, 8, "big", 4)]
    else:
        groups = [_packets(data, 188 if ending == "ts" else 128)]
    return [group for group in groups if len(group) > 1] or [_packets(data, 64)]


def rebuilt(data: bytes, group: list[Span], order: list[int]) -> bytes:
    """The file with the pieces of a group in another order; those left out are gone."""
    middle = b"".join(data[slice(*group[index])] for index in order)
    return data[: group[0][0]] + middle + data[group[-1][1] :]


def _boxes(data: bytes, at: int, end: int) -> Iterator[list[Span]]:
    group = []
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8 or at + size > end:
            break
        group.append((at, at + size))
        if data[at + 4 : at + 8] in _PARENTS:
            yield from _boxes(data, at + 8, at + size)
        at += size
    yield group


def _chunks(data: bytes, at: int, order: str, tail: int) -> list[Span]:
    """RIFF: kind, size, body padded to even; PNG: size, kind, body, checksum."""
    group = []
    while at + 8 <= len(data):
        field = data[at : at + 4] if order == "big" else data[at + 4 : at + 8]
        size = int.from_bytes(field, "big" if order == "big" else "little")
        end = at + 8 + size + tail + (size & 1 if order == "little" else 0)
        group.append((at, min(end, len(data))))
        at = end
    return group


def _elements(data: bytes) -> list[Span]:
    """The children of a Matroska Segment."""
    at, group = data.index(_SEGMENT) + 4, []
    at = _varint(data, at)[1]
    while at < len(data):
        body = _varint(data, _varint(data, at)[1])
        end = body[1] + body[0]
        if end <= at or end > len(data):
            break
        group.append((at, end))
        at = end
    return group


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An EBML number and where it ends."""
    length = 9 - (data[at].bit_length() if at < len(data) and data[at] else 1)
    return int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1), at + length


def _packets(data: bytes, size: int) -> list[Span]:
    return [(at, min(at + size, len(data))) for at in range(0, len(data), size)]
