from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import numpy as np
import pytest

from reelsight.errors import MediaError
from reelsight.media.container import open_source
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.reader import FrameReader
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from tests.reelsight.media.made_clips import Image, even

LIMITS = MediaLimits()


def restamped(data: bytes, stamps: Sequence[int]) -> bytes:
    """The same coded pictures with other pts, in milliseconds; dts stay far behind them."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(file, "w", format="mpegts") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number, (packet, stamp) in enumerate(zip(packets, stamps, strict=True)):
            packet.time_base, packet.pts, packet.dts = Fraction(1, 1000), stamp, number - 5000
            packet.stream = stream
            out.mux(packet)
    return file.getvalue()


def read(
    data: bytes, shown: Callable[[Image], int], limits: MediaLimits = LIMITS
) -> tuple[list[tuple[float, int]], FrameReader]:
    with open_source(data, limits) as source:
        reader = FrameReader(source, limits)
        pictures = [
            (at, shown(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)))
            for at, frame in reader
        ]
    return pictures, reader


def test_every_frame_comes_once_in_order(
    coded: Callable[..., bytes], shown: Callable[[Image], int]
) -> None:
    options = (("preset", "fast"), ("bf", "3"))
    pictures, reader = read(coded(stamps=even(30, 40), options=options), shown)
    assert [number for _, number in pictures] == list(range(30))
    assert [at for at, _ in pictures] == pytest.approx([0.04 * k for k in range(30)])
    assert reader.end_s == pytest.approx(1.2)
    assert (reader.packets, reader.stopped) == (30, None)


def test_a_frame_without_stamp_follows_its_predecessor(
    coded: Callable[..., bytes], shown: Callable[[Image], int]
) -> None:
    pictures, reader = read(coded(stamps=even(30, 40), container="h264"), shown)
    assert [at for at, _ in pictures] == pytest.approx([0.04 * k for k in range(30)])
    assert reader.end_s == pytest.approx(1.2)


def test_a_clip_longer_than_its_header_says_stops_at_the_cap(
    coded: Callable[..., bytes], shown: Callable[[Image], int]
) -> None:
    data = coded(stamps=even(30, 40), container="h264")
    with pytest.raises(MediaError, match=r"duration \(s\)") as caught:
        read(data, shown, MediaLimits(max_duration_s=0.5))
    assert caught.value.code == "media.over_limit"


def test_a_clock_that_runs_backwards_stands_still(
    coded: Callable[..., bytes], shown: Callable[[Image], int]
) -> None:
    stamps = [40 * k for k in range(20)]
    stamps[10], stamps[11] = stamps[6], stamps[7]
    data = restamped(coded(stamps=even(20, 40)), stamps)
    pictures, reader = read(data, shown)
    assert [number for _, number in pictures] == list(range(20))
    times = [at for at, _ in pictures]
    assert times == sorted(times)
    assert times[9:13] == pytest.approx([0.36, 0.36, 0.36, 0.48])
    assert reader.end_s == pytest.approx(0.8)
    _, frames = decode("c", "c.ts", data, Sampling(rate=25), Geometry(64), LIMITS)
    kept = [number for number in range(20) if number not in (9, 10)]
    assert [shown(image) for image in frames.pixels] == kept
    assert (frames.asked, frames.returned) == (20, 18)
