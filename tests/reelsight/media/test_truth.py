"""What decode promises, checked against clips that say in their pixels what is right."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest

from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.truth_clips import CASES, COLOUR, Case, make, problems, read

SAMPLINGS = [Sampling(rate=1), Sampling(rate=4), Sampling(rate=25), Sampling("count", count=7)]
# FFmpeg lets the second piece of an edit list begin late by the reordering delay of B-frames.
FFMPEG_LATE = "edit list: middle cut out, B-frames"


def decoded(name: str, sampling: Sampling) -> Frames:
    data = make(CASES[name])
    return decode("c", "c", data, sampling, Geometry(224), MediaLimits())[1]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("name", [name for name in CASES if name != FFMPEG_LATE])
def test_the_promise_is_kept(name: str, sampling: Sampling) -> None:
    assert problems(decoded(name, sampling), CASES[name]) == []


def test_where_ffmpeg_is_late_the_pictures_are_right_and_late_by_two_frames() -> None:
    frames = decoded(FFMPEG_LATE, Sampling(rate=25))
    case = CASES[FFMPEG_LATE]
    assert [read(image)[0] for image in frames.pixels] == [number for number, _ in case.truth]
    late = frames.pts - [at for _, at in case.truth]
    assert late[:25].tolist() == pytest.approx([0.0] * 25, abs=1e-9)
    assert late[25:].tolist() == pytest.approx([0.08] * 25, abs=1e-9)


def _sheet(data: bytes) -> dict[str, Any]:
    """What a clip is made of, read straight from PyAV."""
    with av.open(io.BytesIO(data), mode="r") as container:
        stream = max(container.streams.video, key=lambda video: video.width)
        packets = [packet for packet in container.demux(stream) if packet.size]
        streams, start = len(container.streams.video), stream.start_time
    with av.open(io.BytesIO(data), mode="r") as container:
        stream = max(container.streams.video, key=lambda video: video.width)
        frames = list(container.decode(stream))
    stamps = [packet.pts for packet in packets if packet.pts is not None]
    keyframe, leading = stamps[0] if stamps else 0, 0
    for packet in packets:
        if packet.is_keyframe:
            keyframe = packet.pts or 0
        leading += packet.pts is not None and packet.pts < keyframe
    return {
        "streams": streams,
        "start": start,
        "keys": sum(packet.is_keyframe for packet in packets),
        "leading": leading,
        "discarded": sum(packet.is_discard for packet in packets),
        "B": sum(frame.pict_type == 3 for frame in frames),
        "interlaced": all(frame.interlaced_frame for frame in frames),
        "format": frames[0].format.name,
        "matrix": frames[0].colorspace,
        "range": frames[0].color_range,
        "sizes": len({(frame.width, frame.height) for frame in frames}),
        "size": (frames[0].width, frames[0].height),
        "gaps": len(set(np.diff(sorted(stamps)).tolist())),
    }


MADE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "h264": lambda s: s["gaps"] == 1 and s["matrix"] == 6 and s["range"] == 1,
    "variable rate": lambda s: s["gaps"] > 4,
    "B-frames": lambda s: s["B"] > 20 and s["leading"] == 0 and s["keys"] == 3,
    "open GOP": lambda s: s["leading"] > 4,
    "open GOP, hevc": lambda s: s["leading"] > 4,
    "one keyframe only": lambda s: s["keys"] == 1,
    "edit list: start cut off": lambda s: s["discarded"] >= 8,
    "edit list: middle cut out": lambda s: s["discarded"] >= 8,
    "negative start, webm": lambda s: s["start"] == -400,
    "negative start, transport stream": lambda s: s["start"] < 0,
    "10 bit h264": lambda s: s["format"] == "yuv420p10le",
    "10 bit hevc": lambda s: s["format"] == "yuv420p10le",
    "10 bit av1": lambda s: s["format"] == "yuv420p10le",
    "bt601 full": lambda s: s["matrix"] == 6 and s["range"] == 2,
    "bt709 limited": lambda s: s["matrix"] == 1 and s["range"] == 1,
    "bt709 full": lambda s: s["matrix"] == 1 and s["range"] == 2,
    "matrix untold, large": lambda s: s["matrix"] == 2,
    "odd size": lambda s: s["size"] == (191, 145),
    "size changes": lambda s: s["sizes"] == 2,
    "size changes in a transport stream": lambda s: s["sizes"] == 2,
    "several video streams": lambda s: s["streams"] == 2,
    "interlaced": lambda s: s["interlaced"],
}


@pytest.mark.parametrize("name", MADE)
def test_a_case_is_what_its_name_says(name: str) -> None:
    sheet = _sheet(make(CASES[name]))
    assert MADE[name](sheet), sheet


def _changed(frames: Frames, change: Callable[[Any], Any]) -> Frames:
    pixels = np.ascontiguousarray(change(frames.pixels.astype(float)).clip(0, 255))
    return Frames(
        frames.clip_id,
        pixels.astype(np.uint8),
        frames.pts,
        frames.end_s,
        frames.policy,
        frames.asked,
    )


def _as_if_bt709(pixels: Any) -> Any:
    """What BT.601 pictures look like to whoever takes them for BT.709."""
    kr, kb = 0.299, 0.114
    luma = pixels @ np.array([kr, 1 - kr - kb, kb])
    blue, red = (pixels[..., 2] - luma) / (2 - 2 * kb), (pixels[..., 0] - luma) / (2 - 2 * kr)
    kr, kb = 0.2126, 0.0722
    r, b = luma + (2 - 2 * kr) * red, luma + (2 - 2 * kb) * blue
    return np.stack([r, (luma - kr * r - kb * b) / (1 - kr - kb), b], axis=-1)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda pixels: np.roll(pixels, 1, axis=0), "shows frames"),
        (lambda pixels: pixels[:, ::-1, ::-1], "shows frames"),
        (lambda pixels: pixels.transpose(0, 2, 1, 3), "shows frames"),
        (_as_if_bt709, "colours off"),
        (lambda pixels: pixels * 219 / 255 + 16, "colours off"),
        (lambda pixels: (pixels - 16) * 255 / 219, "colours off"),
        (lambda pixels: pixels[..., ::-1], "colours off"),
    ],
)
def test_the_check_finds_what_is_wrong(change: Callable[[Any], Any], word: str) -> None:
    right = decoded("h264", Sampling(rate=4))
    assert problems(right, CASES["h264"]) == []
    found = problems(_changed(right, change), CASES["h264"])
    assert any(word in problem for problem in found), found


def test_the_check_finds_late_stamps_and_a_wrong_end() -> None:
    right, case = decoded("h264", Sampling(rate=4)), CASES["h264"]
    late = Frames(
        "c", right.pixels, right.pts + np.linspace(0, 0.02, len(right)), 2.4, "rate:4", 10
    )
    assert any("stamps" in problem for problem in problems(late, case))
    long = Frames("c", right.pixels, right.pts, 2.6, "rate:4", 11)
    assert any("ends at" in problem for problem in problems(long, case))
    assert any("does not say" in p for p in problems(right, Case("x", keep=0.5)))


def test_the_tolerance_on_colour_lies_well_below_any_mistake() -> None:
    right = decoded("h264", Sampling(rate=1))
    for change in (_as_if_bt709, lambda pixels: pixels * 219 / 255 + 16):
        assert read(_changed(right, change).pixels[0])[1] > 2 * COLOUR
