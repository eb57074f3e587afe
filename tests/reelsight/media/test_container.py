from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from reelsight.errors import MediaError
from reelsight.media.container import open_source
from reelsight.media.limits import MediaLimits
from reelsight.media.video_stream import pixel_aspect

LIMITS = MediaLimits()
TEN = tuple(range(10))


def refusal(data: bytes, limits: MediaLimits = LIMITS) -> MediaError:
    with pytest.raises(MediaError) as caught, open_source(data, limits):
        pass
    assert caught.value.stage == "decode"
    assert caught.value.code.startswith("media.")
    assert caught.value.hint
    return caught.value


def two_streams(sizes: list[tuple[int, int]], default: int | None = None) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        streams = []
        for index, (width, height) in enumerate(sizes):
            stream = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            if default is not None:
                stream.disposition = av.stream.Disposition(int(index == default))
            streams.append(stream)
        for stream in streams:
            black = np.zeros((stream.height, stream.width, 3), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
            out.mux(stream.encode(None))
    return file.getvalue()


def test_the_only_stream_is_taken(coded: Callable[..., bytes]) -> None:
    with open_source(coded(stamps=TEN, clock=10, audio_s=1.0), LIMITS) as source:
        assert (source.demuxer, source.codec, source.cut_short) == ("mov", "h264", False)
        assert source.stream.codec_context.thread_count == 1
        assert sum(packet.size > 0 for packet in source.packets()) == 10


def test_of_several_streams_the_largest_wins_unless_another_is_the_default() -> None:
    sizes = [(64, 48), (128, 96), (96, 64)]
    for default, chosen in ((None, 1), (0, 0), (2, 2)):
        with open_source(two_streams(sizes, default), LIMITS) as source:
            assert source.stream.index == chosen


def test_the_multistream_file_gives_what_ffmpeg_gives(videos_dir: Path) -> None:
    path = videos_dir / "nasa_multistream_h264.mp4"
    with av.open(str(path)) as container:
        best = container.streams.best("video")
        assert best is not None
        expected = best.index
    with open_source(path.read_bytes(), LIMITS) as source:
        assert source.stream.index == expected == 3
        assert source.stream.codec_context.width == 480


def test_audio_alone_is_no_video() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        sound = out.add_stream("aac", rate=8000)
        chunk = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        chunk.sample_rate = 8000
        out.mux(sound.encode(chunk))
        out.mux(sound.encode(None))
    error = refusal(file.getvalue())
    assert error.code == "media.no_video"
    assert "audio" in str(error)


@pytest.mark.parametrize(
    "text",
    [
        b"hello, I am a text file that calls itself clip.mp4\n" * 40,
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    ],
)
def test_text_and_playlists_never_reach_a_demuxer(text: bytes) -> None:
    assert refusal(text).code == "media.unrecognised_container"


@pytest.mark.parametrize("film", [False, True])
def test_a_cover_picture_is_never_the_film(film: bool) -> None:
    file = io.BytesIO()
    picture = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
    with av.open(file, "w", format="mp4") as out:
        cover = out.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 256, 256, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = out.add_stream("libx264", rate=25) if film else None
        if stream is not None:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        large = picture.reformat(256, 256, "yuvj420p")
        for packet in cover.encode(large) + cover.encode(None):
            out.mux(packet)
        if stream is not None:
            out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
    if not film:
        assert refusal(file.getvalue()).code == "media.no_video"
        return
    with open_source(file.getvalue(), LIMITS) as source:
        assert source.codec == "h264"


def test_codecs_outside_the_list_are_refused(coded: Callable[..., bytes]) -> None:
    data = coded(stamps=TEN, clock=25, codec="mjpeg", pix_fmt="yuvj420p", options=())
    error = refusal(data)
    assert error.code == "media.codec_refused"
    assert "'mjpeg'" in str(error)
    only_hevc = MediaLimits(codecs=("hevc",))
    assert refusal(coded(stamps=TEN, clock=10), only_hevc).code == "media.codec_refused"


@pytest.mark.parametrize(
    ("cap", "value"),
    [
        ({"max_bytes": 500}, None),
        ({"max_side": 127}, "128"),
        ({"max_megapixels": 0.012}, "0.012288"),
        ({"max_aspect": 1.3}, "1.33333"),
        ({"max_fps": 9.5}, "10"),
        ({"max_duration_s": 0.9}, "1"),
        ({"max_packets": 9}, "10"),
        ({"max_streams": 1}, "2"),
    ],
)
def test_caps_are_checked_before_decoding_and_named(
    coded: Callable[..., bytes], cap: dict[str, Any], value: str | None
) -> None:
    data = coded(stamps=TEN, clock=10, audio_s=1.0)
    error = refusal(data, MediaLimits(**cap))
    assert error.code == "media.over_limit"
    (setting, limit), text = next(iter(cap.items())), str(error)
    assert f"{limit:g}" in text
    assert setting in error.hint
    assert value is None or f"is {value}," in text


def test_an_absurd_pixel_aspect_is_ignored(coded: Callable[..., bytes]) -> None:
    for sar, used in ((Fraction(16, 11), Fraction(16, 11)), (Fraction(60, 1), Fraction(1))):
        with open_source(coded(stamps=TEN, clock=10, sar=sar), LIMITS) as source:
            assert pixel_aspect(source.stream) == used


def test_a_header_that_claims_more_bytes_is_cut_short(coded: Callable[..., bytes]) -> None:
    data = coded(stamps=TEN, clock=10, mux=(("movflags", "faststart"),))
    with open_source(data[:-100], LIMITS) as source:
        assert source.cut_short
