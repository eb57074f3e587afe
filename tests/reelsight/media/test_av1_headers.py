"""AV1 packets that nothing refers to are told by their headers, and anything odd is kept."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from av.packet import Packet
from av.video.stream import VideoStream

from reelsight.media.av1_headers import Sequence, is_unreferenced, read_sequence
from reelsight.media.container import open_source
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.media.shortcut import find_shortcuts
from tests.reelsight.media.moving_clips import coded


@pytest.fixture(scope="module")
def clip() -> tuple[Sequence, list[Packet[VideoStream]]]:
    container = av.open(io.BytesIO(coded("av1")), mode="r")
    stream = container.streams.video[0]
    sequence = read_sequence(stream.codec_context.extradata or b"")
    assert sequence is not None
    return sequence, [packet for packet in container.demux(stream) if packet.size]


def pictures(packets: list[Packet[VideoStream]]) -> dict[int, bytes]:
    """Every picture by its stamp, decoded by a decoder of its own."""
    context = av.CodecContext.create("libdav1d", "r")
    frames = [f for p in packets for f in context.decode(p)] + context.decode(None)  # type: ignore[attr-defined]
    return {frame.pts: frame.to_ndarray().tobytes() for frame in frames}


def test_what_is_unreferenced_can_be_left_out(
    clip: tuple[Sequence, list[Packet[VideoStream]]],
) -> None:
    sequence, packets = clip
    kept = [packet for packet in packets if not is_unreferenced(bytes(packet), sequence)]
    assert len(packets) / 5 < len(kept) < len(packets)
    whole, some = pictures(packets), pictures(kept)
    assert len(some) == len(kept)
    assert all(whole[pts] == picture for pts, picture in some.items())


def test_a_shortcut_does_not_decode_them() -> None:
    limits = MediaLimits()
    with open_source(coded("av1"), limits) as source:
        shortcuts = find_shortcuts(source, (Sampling("count", count=1),), limits)
        assert shortcuts is not None
        (shortcut,) = shortcuts
        sequence = read_sequence(source.stream.codec_context.extradata or b"")
        assert sequence is not None
        (wanted,) = shortcut.promised
        packets = [step.packet for step in shortcut.steps]
        assert packets[-1].pts == wanted
        assert not any(is_unreferenced(bytes(packet), sequence) for packet in packets[:-1])


def test_odd_packets_count_as_referred_to(
    clip: tuple[Sequence, list[Packet[VideoStream]]],
) -> None:
    sequence, packets = clip
    free = next(bytes(p) for p in packets if is_unreferenced(bytes(p), sequence))
    header = free[2:] if free[:2] == b"\x12\x00" else free
    assert is_unreferenced(header, sequence)
    assert not is_unreferenced(b"", sequence)
    assert not is_unreferenced(header + header, sequence), "two pictures"
    assert not is_unreferenced(header[:3], sequence), "the header is cut off"
    assert not is_unreferenced(bytes([header[0] | 4]) + b"\0" + header[1:], sequence), "layers"
    assert not is_unreferenced(b"\x0a\x01\x00" + header, sequence), "a new sequence"
    assert not is_unreferenced(bytes(packets[0]), sequence), "a keyframe"


def test_any_bytes_are_read_without_an_error() -> None:
    rng = np.random.default_rng(1)
    for length in range(200):
        data = rng.integers(0, 256, length, np.uint8).tobytes()
        sequence = read_sequence(data) or Sequence(0, 7, 2, 2)
        is_unreferenced(data, sequence)
    assert read_sequence(b"") is None
    assert read_sequence(b"\x81\0\0\0\x0a\x01\x10") is None, "cut off"
    assert read_sequence(b"\x81\0\0\0\x0a\x0a" + b"\x08" + bytes(9)) is None, "a still picture's"
