"""A shortcut gives, bit for bit, what the whole way gives, from fewer decoded pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import reelsight.media.decode
from reelsight.errors import MediaError
from reelsight.media.container import open_source
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.media.shortcut import Shortcut, find_shortcuts
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.counted_pictures import counted_pictures
from tests.reelsight.media.moving_clips import MOVING, coded

LIMITS = MediaLimits()
SAMPLINGS = [
    Sampling(),
    Sampling(rate=0.4),
    Sampling(rate=7.3),
    Sampling(rate=30),
    Sampling("count", count=1),
    Sampling("count", count=5),
]
Decoded = tuple[Clip, Frames] | str


def outcome(data: bytes, sampling: Sampling) -> Decoded:
    try:
        return decode("c", "c.mp4", data, sampling, Geometry(64), LIMITS)
    except MediaError as error:
        return f"{error.code}: {error.message}"


def whole_way(data: bytes, sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> Decoded:
    with monkeypatch.context() as patch:
        patch.setattr(reelsight.media.decode, "find_shortcuts", lambda *_: None)
        return outcome(data, sampling)


def assert_equal(short: Decoded, whole: Decoded) -> None:
    if isinstance(short, str) or isinstance(whole, str):
        assert short == whole
        return
    (clip, frames), (other_clip, others) = short, whole
    assert clip == other_clip
    assert frames.pixels.tobytes() == others.pixels.tobytes()
    assert frames.pts == pytest.approx(others.pts, abs=1e-9)
    assert frames.weights == pytest.approx(others.weights, abs=1e-6)
    assert (frames.asked, frames.stopped) == (others.asked, others.stopped)
    assert frames.max_error_s == pytest.approx(others.max_error_s, abs=1e-9)


def shortcut(data: bytes, sampling: Sampling) -> Shortcut | None:
    with open_source(data, LIMITS) as source:
        found = find_shortcuts(source, (sampling,), LIMITS)
        return found[0] if found else None


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("name", MOVING)
def test_the_same_bits_come_out(
    name: str, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = coded(name)
    assert_equal(outcome(data, sampling), whole_way(data, sampling, monkeypatch))


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_the_same_bits_come_out_of_real_files(
    videos_dir: Path, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted(videos_dir.iterdir()):
        data = path.read_bytes()
        assert_equal(outcome(data, sampling), whole_way(data, sampling, monkeypatch))


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("h264 pyramid", 30),  # Of 75: a few references between each keyframe and its target.
        ("h264 no B", 20),
        ("h264 in Matroska", 30),
        ("hevc", 35),
        ("vp9", 45),
    ],
)
def test_fewer_pictures_are_decoded(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = count_decoded(coded(name), Sampling(), monkeypatch)
    assert 3 <= seen <= most


def count_decoded(data: bytes, sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> int:
    with counted_pictures(monkeypatch) as seen:
        outcome(data, sampling)
    return seen[0]


@pytest.mark.parametrize("name", ["h264 fields", "hevc layers"])
def test_nothing_is_passed_over_where_unreferenced_does_not_mean_unused(name: str) -> None:
    found = shortcut(coded(name), Sampling(rate=0.4))
    assert found is not None
    assert all(step.needed for step in found.steps)


def test_an_open_gop_is_no_fresh_start() -> None:
    found = shortcut(coded("h264 open GOP"), Sampling(rate=0.4))
    assert found is not None
    assert not any(step.restart for step in found.steps)


def test_a_codec_whose_packets_do_not_tell_goes_the_whole_way() -> None:
    assert shortcut(coded("mpeg4"), Sampling()) is None


def test_a_file_that_is_cut_short_goes_the_whole_way() -> None:
    data = coded("h264 in Matroska")
    assert shortcut(data[: len(data) // 2], Sampling()) is None


def test_a_broken_promise_is_noticed_and_the_whole_way_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever a shortcut may get wrong one day, the frames are still the right ones."""
    data, sampling = coded("h264 pyramid"), Sampling(rate=7.3)
    expected = whole_way(data, sampling, monkeypatch)

    def lossy(*arguments: Any) -> list[Shortcut] | None:
        found = find_shortcuts(*arguments)
        return found and [replace(f, steps=f.steps[:5] + f.steps[9:]) for f in found]

    monkeypatch.setattr(reelsight.media.decode, "find_shortcuts", lossy)
    assert_equal(outcome(data, sampling), expected)


def test_damage_on_the_way_is_told_as_the_whole_way_tells_it(
    videos_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (videos_dir / "corrupted.mp4").read_bytes()
    short = outcome(data, Sampling())
    assert short == whole_way(data, Sampling(), monkeypatch)
    assert isinstance(short, str)
    assert short.startswith("media.damaged: coded picture 31")


def test_a_start_that_is_itself_passed_is_not_returned_to() -> None:
    """One keyframe more than is wanted between two wanted pictures costs no second restart."""
    found = shortcut(coded("h264 no B"), Sampling(rate=0.9))
    assert found is not None
    given = [step.packet.pts for step in found.steps]
    assert len(given) == len(set(given))
    assert 1 <= sum(step.restart for step in found.steps) <= len(found.promised)
