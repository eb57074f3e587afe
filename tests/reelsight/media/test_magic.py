from __future__ import annotations

from collections.abc import Callable

import pytest

from reelsight.errors import MediaError
from reelsight.media.magic import claimed_bytes, demuxer_for

CONTAINERS = [
    ("mp4", "mov"),
    ("mov", "mov"),
    ("matroska", "matroska"),
    ("avi", "avi"),
    ("flv", "flv"),
    ("mpegts", "mpegts"),
    ("vob", "mpeg"),
    ("h264", "h264"),
]
SIX = tuple(range(6))


@pytest.mark.parametrize(("container", "demuxer"), CONTAINERS)
def test_the_bytes_name_the_demuxer(
    coded: Callable[..., bytes], container: str, demuxer: str
) -> None:
    assert demuxer_for(coded(stamps=SIX, clock=25, container=container)) == demuxer


def test_webm_ogg_raw_hevc_and_blu_ray_transport_stream(coded: Callable[..., bytes]) -> None:
    quick = (("deadline", "realtime"), ("cpu-used", "8"))
    webm = coded(stamps=SIX, clock=25, codec="libvpx-vp9", container="webm", options=quick)
    assert demuxer_for(webm) == "matroska"
    assert demuxer_for(b"OggS" + bytes(60)) == "ogg"
    quiet = (("preset", "ultrafast"), ("x265-params", "log-level=none"))
    hevc = coded(stamps=SIX, clock=25, codec="libx265", container="hevc", options=quiet)
    assert demuxer_for(hevc) == "hevc"
    assert demuxer_for((bytes(4) + b"\x47" + bytes(187)) * 4) == "mpegts"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"G",
        b"just some text that is not a video",
        b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\n/etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff\xe0" + bytes(100),
        b"\x00\x00\x00\x20ftypheic" + bytes(100),
        b"\x00\x00\x00\x20ftypavif" + bytes(100),
        b"RIFF\x00\x00\x00\x00WAVE",
        b"RIFF\x00\x00\x00\x00WEBP",
        b"ID3\x04" + bytes(100),
        b"\x00\x00\x01\xb3" + bytes(100),
        bytes(5000),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError) as caught:
        demuxer_for(data)
    assert caught.value.code == "media.unrecognised_container"
    assert repr(data[:12]) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska", "avi"])
def test_a_container_says_its_own_length(coded: Callable[..., bytes], container: str) -> None:
    data = coded(stamps=SIX, clock=25, container=container)
    assert claimed_bytes(data) == len(data)
    assert (claimed_bytes(data[: len(data) // 2]) or 0) > len(data) // 2


@pytest.mark.parametrize("container", ["flv", "mpegts", "h264"])
def test_or_does_not(coded: Callable[..., bytes], container: str) -> None:
    assert claimed_bytes(coded(stamps=SIX, clock=25, container=container)) is None


def test_an_endless_matroska_segment_claims_nothing() -> None:
    head = b"\x1a\x45\xdf\xa3\x80"
    assert claimed_bytes(head + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + bytes(50)) is None
    assert claimed_bytes(head + b"\x18\x53\x80\x67\x81" + bytes(50)) == len(head) + 5 + 1
