from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from reelsight.errors import MediaError
from reelsight.media.container import open_source
from reelsight.media.limits import MediaLimits
from reelsight.media.timeline import header_end, measured_end, slack_s, tick
from tests.reelsight.media.made_clips import even

LIMITS = MediaLimits()


def seconds(data: bytes, end: int | None) -> float:
    assert end is not None
    with open_source(data, LIMITS) as source:
        return float(end * tick(source.stream))


def test_an_mp4_header_is_believed_and_true(coded: Callable[..., bytes]) -> None:
    data = coded(stamps=even(50, 40))
    with open_source(data, LIMITS) as source:
        assert seconds(data, header_end(source)) == pytest.approx(2.0)
    assert seconds(data, measured_end(data, LIMITS)) == pytest.approx(2.0)


def test_a_header_that_does_not_fit_its_index_is_not_believed(
    coded: Callable[..., bytes],
) -> None:
    data = bytearray(coded(stamps=even(50, 40)))
    at = data.index(b"mdhd") + 4 + 4 + 8 + 4
    for lie in (1, 2**30):
        data[at : at + 4] = lie.to_bytes(4, "big")
        with open_source(bytes(data), MediaLimits(max_duration_s=1e9)) as source:
            end = header_end(source)
            assert end is None or float(end * tick(source.stream)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"container": "matroska"},
        {"container": "mpegts"},
        {"container": "flv"},
        {"container": "h264"},
        {"mux": (("movflags", "frag_keyframe+empty_moov"),)},
        {"container": "matroska", "audio_s": 5.0},
    ],
)
def test_other_headers_are_measured(coded: Callable[..., bytes], fields: dict[str, Any]) -> None:
    data = coded(stamps=even(50, 40), **fields)
    with open_source(data, LIMITS) as source:
        assert header_end(source) is None
        start = (source.stream.start_time or 0) * tick(source.stream)
    assert seconds(data, measured_end(data, LIMITS)) - start == pytest.approx(2.0, abs=0.002)


def test_measuring_stops_at_the_packet_cap(coded: Callable[..., bytes]) -> None:
    data = coded(stamps=even(50, 40), container="matroska")
    with pytest.raises(MediaError, match="the limit is 20"):
        measured_end(data, MediaLimits(max_packets=20))


def test_slack_is_half_a_tick_and_never_a_frame(coded: Callable[..., bytes]) -> None:
    for fields, expected in (
        ({"container": "matroska"}, 0.0005),
        ({"container": "mpegts"}, 0.5 / 90000),
        ({"container": "avi", "stamps": even(5, 1), "clock": 25}, 0.0005),
    ):
        data = coded(**{"stamps": even(50, 40), **fields})
        with open_source(data, LIMITS) as source:
            assert slack_s(source.stream) == pytest.approx(expected)
