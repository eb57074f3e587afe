"""Which AV1 packets no other picture refers to, by the headers of their frames.

Bits are read as far as `refresh_frame_flags` (AV1 bitstream specification, 5.5 and 5.9). Whatever
is rare there makes a packet count as referred to. No picture is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Sequence", "is_unreferenced", "read_sequence"]

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6
# Temporal delimiter, tile group, metadata, padding: they hold no frame header.
_HARMLESS = (2, 4, 5, 15)
_CONFIGURATION = 4  # Bytes of an av1C box before the units.
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3
_TOLD_BY_FRAME = 2
_LONGEST_HEADER = 64


class Sequence(NamedTuple):
    """What a sequence header says about the frame headers after it.

    Attributes:
        frame_id_bits: Length of a frame's id; 0 where frames have none.
        order_hint_bits: Length of a frame's order hint.
        screen_content: 0 or 1 for all frames, or 2: each tells.
        integer_mv: Likewise.
    """

    frame_id_bits: int
    order_hint_bits: int
    screen_content: int
    integer_mv: int


def read_sequence(extradata: bytes) -> Sequence | None:
    """The sequence header in an `av1C` box, or None where it is missing or has rare parts."""
    for kind, payload in _units(extradata[_CONFIGURATION:]):
        if kind == _SEQUENCE:
            try:
                return _sequence(_Bits(payload))
            except EOFError:
                return None
    return None


def is_unreferenced(packet: bytes, sequence: Sequence) -> bool:
    """Whether a packet is one picture on display that changes nothing for those after it."""
    frames = []
    for kind, payload in _units(packet):
        if kind in (_FRAME, _FRAME_HEADER):
            frames.append(payload)
        elif kind not in _HARMLESS:
            return False
    try:
        return len(frames) == 1 and _refreshes_nothing(_Bits(frames[0]), sequence)
    except EOFError:
        return False


class _Bits:
    """Reads numbers, most significant bit first; raises EOFError behind the end."""

    def __init__(self, data: bytes) -> None:
        data = data[:_LONGEST_HEADER]
        self._left = 8 * len(data)
        self._value = int.from_bytes(data, "big")

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & ((1 << count) - 1)


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each unit (OBU); type -1 where layers or damage make it doubtful."""
    at = 0
    while at < len(data):
        header = data[at]
        at += 1
        if header & 0x84:  # The forbidden bit, or an extension: layers.
            yield -1, b""
            return
        size = len(data) - at
        if header & 2:
            size = shift = 0
            while at < len(data):
                byte = data[at]
                at += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
        yield header >> 3 & 15, data[at : at + min(size, _LONGEST_HEADER)]
        at += size


def _sequence(bits: _Bits) -> Sequence | None:
    bits.take(4)  # Profile, still picture.
    if bits.take(1):  # The reduced header of still pictures.
        return None
    if bits.take(1):  # Timing.
        bits.take(64)
        if not bits.take(1) or bits.take(1):  # Pictures of uneven length; a decoder model.
            return None
    delays = bits.take(1)
    for _ in range(bits.take(5) + 1):
        if bits.take(12):  # An operating point that selects layers.
            return None
        if bits.take(5) > 7:
            bits.take(1)
        if delays and bits.take(1):
            bits.take(4)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    bits.take(across + down)
    ids = bits.take(1)
    id_bits = bits.take(4) + 2 + bits.take(3) + 1 if ids else 0
    bits.take(7)  # Tools that frame headers do not depend on, as far as they are read here.
    order = bits.take(1)
    if order:
        bits.take(2)
    screen_content = _TOLD_BY_FRAME if bits.take(1) else bits.take(1)
    integer_mv = _TOLD_BY_FRAME
    if screen_content:
        integer_mv = _TOLD_BY_FRAME if bits.take(1) else bits.take(1)
    return Sequence(id_bits, bits.take(3) + 1 if order else 0, screen_content, integer_mv)


def _refreshes_nothing(bits: _Bits, sequence: Sequence) -> bool:
    if bits.take(1):  # An earlier picture is shown again.
        return False
    kind, shown = bits.take(2), bits.take(1)
    if not shown or kind in (_KEY, _SWITCH):
        return False
    resilient = bits.take(1)
    bits.take(1)  # disable_cdf_update
    screen_content = sequence.screen_content
    if screen_content == _TOLD_BY_FRAME:
        screen_content = bits.take(1)
    if screen_content and sequence.integer_mv == _TOLD_BY_FRAME:
        bits.take(1)
    bits.take(sequence.frame_id_bits)
    bits.take(1)  # frame_size_override_flag
    bits.take(sequence.order_hint_bits)
    if kind != _INTRA_ONLY and not resilient:
        bits.take(3)  # primary_ref_frame
    return bits.take(8) == 0
