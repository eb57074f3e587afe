"""A plan says beforehand what decoding then does."""

from __future__ import annotations

from pathlib import Path

import pytest

from reelsight.media.decode import decode
from reelsight.media.decode_plan import Plan, survey
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.counted_pictures import counted_pictures
from tests.reelsight.media.moving_clips import coded

LIMITS = MediaLimits()
NAMES = [
    *("rate:1", "rate:0.4", "count:5", "keyframe", "keyframe:1", "keyframe+fill:2"),
    *("rate:7.3@reference", "rate:1@fast", "keyframe+fill:2@reference"),
]


def planned(data: bytes, name: str) -> Plan:
    found = survey(data, [Sampling.parse(name)], LIMITS)
    assert found.untold == ""
    assert len(found.plans) == 1
    return found.plans[0]


def run(data: bytes, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Frames, int]:
    """The frames, and how many pictures came out of the decoder."""
    with counted_pictures(monkeypatch) as seen:
        frames = decode("c", "c", data, Sampling.parse(name), Geometry(32), LIMITS)[1]
    return frames, seen[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clip", ["h264 pyramid", "h264 one key", "h264 stream", "hevc", "vp9"])
def test_what_is_planned_is_what_happens(
    clip: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(coded(clip), name)
    frames, seen = run(coded(clip), name, monkeypatch)
    assert (plan.sampling, plan.asked, plan.returned) == (name, frames.asked, frames.returned)
    assert plan.max_error_s == pytest.approx(frames.max_error_s, abs=1e-9)
    # Reading ends with the last frame asked for; what the decoder still holds never comes out.
    assert 0 <= plan.pictures - seen <= 4
    assert plan.whole == ""


def test_a_keyframe_plan_decodes_and_restarts_once_a_keyframe() -> None:
    plan = planned(coded("h264 no B"), "keyframe")
    assert (plan.pictures, plan.restarts) == (7, 6)
    assert plan.cost < 0.5


def test_decoding_all_costs_one_and_leaving_out_costs_less() -> None:
    data = coded("h264 pyramid")
    costs = [planned(data, f"rate:25@{accuracy}").cost for accuracy in ("exact", "reference")]
    assert costs[0] == 1
    assert 0.3 < costs[1] < 1
    assert planned(data, "rate:25@fast").cost == pytest.approx(0.65 * costs[1])


def test_scenes_are_planned_by_their_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    data = coded("h264 pyramid")
    for accuracy in ("exact", "reference"):
        plan = planned(data, f"scene:0.5-10:0.3@{accuracy}".removesuffix("@exact"))
        frames, seen = run(data, plan.sampling, monkeypatch)
        assert (plan.asked, plan.returned, plan.pictures) == (None, None, seen)
        assert frames.max_error_s <= plan.max_error_s
        assert plan.whole


def test_the_index_in_numbers() -> None:
    index = survey(coded("h264 no B"), [], LIMITS).index
    assert index is not None
    assert (index.pictures, index.keyframes, index.fresh_starts, index.unreferenced) == (
        75,
        7,
        7,
        0,
    )
    assert (index.end_s, index.longest_gap_s) == pytest.approx((3.0, 0.48))
    assert 1000 < index.size_bytes < len(coded("h264 no B"))


def test_an_open_gop_has_keyframes_but_one_fresh_start() -> None:
    index = survey(coded("h264 open GOP"), [], LIMITS).index
    assert index is not None
    assert (index.keyframes > 1, index.fresh_starts) == (True, 1)


def test_too_many_times_are_planned_as_the_whole_way_that_refuses_them() -> None:
    limits = MediaLimits(max_frames=2)
    (plan,) = survey(coded("h264 no B"), [Sampling()], limits).plans
    assert (plan.asked, plan.pictures, plan.cost) == (None, 75, 1.0)
    assert plan.whole


@pytest.mark.parametrize(
    ("clip", "reason"), [("mpeg4", "mpeg4"), ("h264 in Matroska", "cut short")]
)
def test_packets_that_do_not_tell_are_said_to(clip: str, reason: str) -> None:
    data = coded(clip)
    found = survey(data[: len(data) // 2] if reason == "cut short" else data, [Sampling()], LIMITS)
    assert (found.index, found.plans) == (None, ())
    assert reason in found.untold


def test_real_files_do_what_was_planned(videos_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = 0
    for path in sorted(videos_dir.iterdir()):
        data = path.read_bytes()
        for name in ("rate:1", "keyframe", "keyframe+fill:1@reference"):
            found = survey(data, [Sampling.parse(name)], LIMITS)
            if path.name == "corrupted.mp4" or not found.plans:
                continue
            frames, _ = run(data, name, monkeypatch)
            (plan,) = found.plans
            assert (plan.asked, plan.returned) == (frames.asked, frames.returned), path.name
            assert plan.max_error_s == pytest.approx(frames.max_error_s, abs=1e-6), path.name
            told += 1
    assert told >= 20
