"""Clips with known cuts: each is found, at its frame, and nothing else is."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import av
import numpy as np
import pytest

from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.media.scene import change, signature
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

LIMITS = MediaLimits()
RATE = 25
FRAME_S = 1 / RATE
X264 = {"preset": "fast", "bf": "3", "crf": "20", "g": "250", "x264-params": "scenecut=0"}
Painter = Callable[[int], np.ndarray[Any, Any]]


def scene(number: int) -> Painter:
    """A texture of its own that drifts by a pixel every third frame, as under a moving camera."""
    rng = np.random.default_rng(number)
    coarse = np.kron(rng.integers(30, 226, (3, 11, 1)), np.ones((40, 40, 3)))
    fine = np.kron(rng.integers(-20, 21, (10, 36, 1)), np.ones((12, 12, 3)))
    texture = np.clip(coarse[:120, :432] + fine[:120, :432], 0, 255)

    def paint(k: int) -> np.ndarray[Any, Any]:
        return texture[:96, k // 3 : k // 3 + 160]

    return paint


@lru_cache(maxsize=16)
def clip(lengths: Sequence[int], pix_fmt: str = "yuv420p", fade: int = 0) -> bytes:
    """Scenes of so many frames, one behind the other; `fade` frames of each dissolve into it."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=RATE, options=X264)
        stream.width, stream.height, stream.pix_fmt = 160, 96, pix_fmt
        at = 0
        for number, length in enumerate(lengths):
            for k in range(length):
                picture = scene(number)(k)
                if number and k < fade:
                    part = (k + 1) / (fade + 1)
                    picture = part * picture + (1 - part) * scene(number - 1)(k)
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
                frame.pts, frame.time_base = at, Fraction(1, RATE)
                container.mux(stream.encode(frame))
                at += 1
        container.mux(stream.encode(None))
    return out.getvalue()


def run(data: bytes, name: str) -> Frames:
    return decode("c", "c.mp4", data, Sampling.parse(name), Geometry(64), LIMITS)[1]


def starts(lengths: Sequence[int]) -> list[float]:
    return [float(n) * FRAME_S for n in np.cumsum([0, *lengths[:-1]])]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_each_cut_is_found_at_its_frame_and_nothing_else(pix_fmt: str) -> None:
    lengths = (40, 25, 60, 13, 30)
    frames = run(clip(lengths, pix_fmt), "scene:0.5-10")
    assert frames.pts.tolist() == pytest.approx(starts(lengths))
    assert (frames.asked, frames.returned, frames.max_error_s) == (5, 5, 0.0)
    assert frames.weights.sum() == pytest.approx(sum(lengths) * FRAME_S)


def test_the_threshold_lies_between_what_moves_and_what_is_cut() -> None:
    """The stated threshold of 0.3, against both sides on these clips."""
    looks = []
    with av.open(io.BytesIO(clip((40, 25, 60, 13, 30))), "r") as container:
        looks = [signature(frame) for frame in container.decode(video=0)]
    changes = np.array([change(a, b) for a, b in itertools.pairwise(looks)])
    cuts = np.zeros(len(changes), np.bool_)
    cuts[np.cumsum((40, 25, 60, 13)) - 1] = True
    assert changes[~cuts].max() < 0.1
    assert changes[cuts].min() > 0.5


def test_change_is_a_share_of_the_picture() -> None:
    dark, light = (plain(level) for level in (40, 200))
    half = np.full((96, 160, 3), 40, np.uint8)
    half[:, 80:] = 200
    assert change(signature(dark), signature(dark)) == 0
    assert change(signature(dark), signature(light)) == 1
    split = av.VideoFrame.from_ndarray(half, format="rgb24").reformat(format="yuv420p")
    assert change(signature(dark), signature(split)) == pytest.approx(0.5, abs=0.01)


def plain(level: int) -> av.VideoFrame:
    picture = np.full((96, 160, 3), level, np.uint8)
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")


def test_a_cut_too_soon_waits_for_the_minimum_gap_and_says_how_late_it_is() -> None:
    frames = run(clip((40, 5, 60)), "scene:0.5-10")
    # The cuts of 1.6 and 1.8 s: the first is met at once, the second once half a second went by.
    assert frames.pts.tolist() == pytest.approx([0, 1.6, 2.12])
    assert frames.asked == 3
    assert frames.max_error_s == pytest.approx(2.12 - 1.8)
    assert np.diff(frames.pts).min() >= 0.5


def test_several_cuts_within_the_gap_are_served_by_one_frame() -> None:
    frames = run(clip((40, 5, 3, 60)), "scene:0.5-10")
    assert (frames.asked, frames.returned) == (4, 3)
    assert frames.max_error_s == pytest.approx(2.12 - 1.8)


def test_a_cut_just_before_the_end_keeps_the_frame_before_it() -> None:
    frames = run(clip((40, 5, 5)), "scene:0.5-10")
    assert (frames.asked, frames.returned) == (3, 2)
    assert frames.max_error_s == pytest.approx(0.2)


def test_no_stretch_is_longer_than_the_maximum_gap() -> None:
    frames = run(clip((40, 25, 60, 13, 30)), "scene:0.5-1")
    assert frames.weights.max() <= 1 + 1e-9
    assert np.diff(frames.pts).min() >= 0.5
    # A second after the first frame; then the cut of 1.6 s starts the count anew.
    assert frames.pts[:4].tolist() == pytest.approx([0, 1, 1.6, 2.6])


def test_what_dissolves_into_another_scene_is_met_once_it_is_another() -> None:
    frames = run(clip((50, 75), fade=25), "scene:0.5-10")
    later = frames.pts[(frames.pts > 2) & (frames.pts <= 3.2)]
    assert 1 <= len(later) <= 2


@pytest.mark.parametrize("accuracy", ["reference", "fast"])
def test_reference_pictures_find_the_same_cuts_within_their_distance(accuracy: str) -> None:
    lengths = (40, 25, 60, 13, 30)
    frames = run(clip(lengths), f"scene:0.5-10@{accuracy}")
    assert frames.returned == len(lengths)
    late = frames.pts - starts(lengths)
    # Of four pictures in a row three may be B-frames, of which x264 keeps the middle one.
    assert late.min() >= -1e-9
    assert late.max() <= 4 * FRAME_S
    assert late.max() <= frames.max_error_s + 1e-9


def test_the_same_clip_gives_the_same_frames_twice() -> None:
    first, second = (run(clip((40, 25, 60, 13, 30)), "scene") for _ in range(2))
    assert first.pixels.tobytes() == second.pixels.tobytes()
