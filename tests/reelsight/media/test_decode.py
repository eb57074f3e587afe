"""Ground truth by construction: every picture says which frame it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from reelsight.errors import MediaError
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling, on_display, target_times
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.made_clips import Image, even

LIMITS = MediaLimits()
X264 = (("preset", "fast"), ("bf", "3"), ("g", "25"), ("crf", "18"))
X265 = (("preset", "ultrafast"), ("x265-params", "log-level=none"))
VPX = (("deadline", "realtime"), ("cpu-used", "8"))
VFR = (0, 10, 500, 510, 1300, 1700, 1750, 2000, 2040)
CLIPS: dict[str, dict[str, Any]] = {
    "constant rate": {"stamps": even(60, 40)},
    "B-frames": {"stamps": even(60, 40), "options": X264},
    "B-frames in Matroska": {"stamps": even(60, 40), "options": X264, "container": "matroska"},
    "B-frames in a transport stream": {
        "stamps": even(60, 40),
        "options": X264,
        "container": "mpegts",
    },
    "B-frames in FLV": {"stamps": even(60, 40), "options": X264, "container": "flv"},
    "raw H.264": {"stamps": even(60, 40), "options": X264, "container": "h264"},
    "AVI": {"stamps": even(60, 1), "clock": 25, "container": "avi"},
    "fragments": {
        "stamps": even(60, 40),
        "options": X264,
        "mux": (("movflags", "frag_keyframe+empty_moov"),),
    },
    "variable rate": {"stamps": VFR},
    "variable rate in Matroska": {"stamps": VFR, "container": "matroska"},
    "late start": {"stamps": even(60, 40, start=2500)},
    "late start in Matroska": {"stamps": even(60, 40, start=2500), "container": "matroska"},
    "NTSC rate": {"stamps": even(60, 1001), "clock": 30000},
    "rounded to milliseconds": {"stamps": even(60, 1), "clock": 30, "container": "matroska"},
    "odd size": {"stamps": even(60, 40), "width": 127, "height": 95, "pix_fmt": "yuv444p"},
    "stretched pixels": {"stamps": even(60, 40), "sar": 2},
    "HEVC": {"stamps": even(60, 40), "codec": "libx265", "options": X265},
    "HEVC 10 bit": {
        "stamps": even(60, 40),
        "codec": "libx265",
        "options": X265,
        "pix_fmt": "yuv420p10le",
    },
    "VP8": {"stamps": even(60, 40), "codec": "libvpx", "options": VPX, "container": "webm"},
    "VP9": {"stamps": even(60, 40), "codec": "libvpx-vp9", "options": VPX, "container": "webm"},
    "AV1": {
        "stamps": even(60, 40),
        "codec": "libsvtav1",
        "options": (("preset", "10"), ("svtav1-params", "lp=1")),
    },
    "MPEG-4": {"stamps": even(60, 40), "codec": "mpeg4", "options": (("bf", "2"),)},
    "sound after the picture": {"stamps": even(60, 40), "audio_s": 5.0},
    "one frame": {"stamps": (0,)},
}
SAMPLINGS = [
    Sampling(),
    Sampling(rate=3),
    Sampling(rate=25),
    Sampling(rate=0.3),
    Sampling("count", count=1),
    Sampling("count", count=7),
    Sampling("count", count=100),
]
# These containers round stamps to whole milliseconds; the others keep finer ticks.
MILLISECONDS = ("matroska", "webm", "flv")
Reader = Callable[[Image], int]


def run(data: bytes, sampling: Sampling, limits: MediaLimits = LIMITS) -> tuple[Clip, Frames]:
    return decode("c", "c.mp4", data, sampling, Geometry(64), limits)


def truth(fields: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Seconds since the first frame, by the recipe."""
    stamps, clock = fields["stamps"], fields.get("clock", 1000)
    return np.array([(stamp - stamps[0]) / clock for stamp in stamps], np.float64)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("name", CLIPS)
def test_every_time_gets_the_frame_on_display(
    coded: Callable[..., bytes], shown: Reader, name: str, sampling: Sampling
) -> None:
    fields = CLIPS[name]
    clip, frames = run(coded(**fields), sampling)
    pts = truth(fields)
    assert clip.duration_s is not None
    assert clip.duration_s == frames.end_s >= pts[-1]
    times = list(target_times(sampling, frames.end_s))
    slack = 0.0005 if fields.get("container") in MILLISECONDS else 1e-5
    expected = on_display(pts, times, slack)
    assert [shown(image) for image in frames.pixels] == sorted(set(expected))
    assert frames.pts == pytest.approx(pts[sorted(set(expected))], abs=0.00051)
    assert (frames.asked, frames.returned) == (len(times), len(set(expected)))
    assert frames.stopped is None
    errors = [abs(time - pts[index]) for time, index in zip(times, expected, strict=True)]
    assert frames.max_error_s == pytest.approx(max(errors), abs=0.00051)


@pytest.mark.parametrize("name", ["constant rate", "B-frames in Matroska", "raw H.264", "VP9"])
def test_the_clip_is_described(coded: Callable[..., bytes], name: str) -> None:
    clip, frames = run(coded(**CLIPS[name]), Sampling())
    assert (clip.width, clip.height, clip.rotation) == (128, 96, 0)
    assert clip.codec == ("vp9" if name == "VP9" else "h264")
    assert clip.pixel_format == "yuv420p"
    assert clip.fps == pytest.approx(25)
    assert clip.duration_s == pytest.approx(2.4, abs=0.001)
    assert frames.weights.sum() == pytest.approx(2.4, abs=0.001)
    assert (clip.sha256, clip.size_bytes) != (None, None)


def test_what_an_edit_list_cuts_off_is_never_shown(
    coded: Callable[..., bytes], shown: Reader
) -> None:
    data = coded(
        stamps=even(50, 40, start=-500),
        options=X264,
        mux=(("avoid_negative_ts", "disabled"),),
    )
    for sampling in (Sampling(rate=4), Sampling("count", count=5)):
        clip, frames = run(data, sampling)
        assert clip.duration_s == pytest.approx(1.48, abs=0.03)
        numbers = [shown(image) for image in frames.pixels]
        assert numbers == [13 + round(at * 25) for at in frames.pts]
        assert frames.pts[0] == 0 or sampling.policy == "count"


def test_shortest_keeps_the_centre_at_its_shape(coded: Callable[..., bytes], shown: Reader) -> None:
    data = coded(stamps=even(30, 40), width=192, height=96)
    _, whole = run(data, Sampling(rate=25))
    _, middle = decode("c", "c", data, Sampling(rate=25), Geometry(96, "shortest"), LIMITS)
    picture = np.zeros((96, 192, 3), np.uint8)
    picture[:, 48:144] = middle.pixels[21]
    columns = slice(50, 142)
    _, full = decode("c", "c", data, Sampling(rate=25), Geometry(192), LIMITS)
    error = np.abs(full.pixels[21][::2, columns].astype(int) - picture[:, columns].astype(int))
    assert error.mean() < 12
    assert shown(whole.pixels[21]) == 21


def test_decoding_stops_after_the_last_time(coded: Callable[..., bytes]) -> None:
    data = bytearray(coded(stamps=even(100, 40), options=X264, mux=(("movflags", "faststart"),)))
    lost = len(data) // 8
    data[-lost:] = bytes(lost)
    clip, frames = run(bytes(data), Sampling("count", count=1))
    assert (frames.returned, frames.stopped) == (1, None)
    assert clip.duration_s == pytest.approx(4.0)


def test_too_many_frames_asked_for_is_refused(coded: Callable[..., bytes]) -> None:
    for container in ("mp4", "matroska"):
        data = coded(stamps=even(60, 40), container=container)
        with pytest.raises(MediaError, match=r"frames asked for is \d+, the limit is 10") as caught:
            run(data, Sampling(rate=25), MediaLimits(max_frames=10))
        assert caught.value.code == "media.over_limit"
        assert "max_frames" in caught.value.hint


def test_caps_that_only_decoding_can_check(coded: Callable[..., bytes]) -> None:
    data = coded(stamps=even(60, 40), container="matroska", options=X264)
    for sampling in (Sampling(), Sampling("count")):
        with pytest.raises(MediaError) as caught:
            run(data, sampling, MediaLimits(max_packets=20))
        assert caught.value.code == "media.over_limit"


def test_the_picture_size_may_change_on_the_way(coded: Callable[..., bytes], shown: Reader) -> None:
    large = coded(stamps=even(25, 40), container="h264")
    small = coded(stamps=even(25, 40), container="h264", width=64, height=48)
    _, frames = run(large + small, Sampling(rate=25))
    assert [shown(image) for image in frames.pixels] == [*range(25), *range(25)]
    with pytest.raises(MediaError, match="longer side") as caught:
        run(small + large, Sampling(rate=25), MediaLimits(max_side=100))
    assert caught.value.code == "media.over_limit"


def test_the_same_bytes_give_the_same_pixels(coded: Callable[..., bytes]) -> None:
    data = coded(**CLIPS["B-frames"])
    first, second = run(data, Sampling(rate=3)), run(data, Sampling(rate=3))
    assert first[0] == second[0]
    assert (first[1].pixels == second[1].pixels).all()
