"""What each policy and each accuracy promises, against a decode of every picture."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reelsight.media.container import open_source
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.packet_index import PacketIndex, read_index
from reelsight.media.reader import FrameReader
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.counted_pictures import counted_pictures
from tests.reelsight.media.made_clips import Image, even
from tests.reelsight.media.moving_clips import MOVING, coded

LIMITS = MediaLimits()
RATE = 25
FRAME_S = 1 / RATE
X264 = (("preset", "fast"), ("bf", "3"), ("g", "25"), ("crf", "18"))
# Half a tick of a millisecond clock.
STAMP_S = 0.00051
# Without the loop filter pixels differ, and what differs is predicted from until the next keyframe.
# These clips differ by up to 2.8 of 255 in the mean, by 4.8 with one keyframe in three seconds; the
# picture next to the right one differs by 47.
FAST_MEAN = 6.0
WRONG_MEAN = 40.0


def run(data: bytes, name: str) -> Frames:
    return decode("c", "c.mp4", data, Sampling.parse(name), Geometry(64), LIMITS)[1]


@lru_cache(maxsize=32)
def every(name: str) -> Frames:
    """Each picture of a moving clip, decoded exactly."""
    return run(coded(name), "rate:25")


def index_of(data: bytes) -> PacketIndex:
    with open_source(data, LIMITS) as source:
        index = read_index(source, LIMITS)
        assert isinstance(index, PacketIndex)
        return index


def key_times(data: bytes) -> list[float]:
    index = index_of(data)
    return sorted(index.seconds(index.stamps[index.keys]).tolist())


def at(frames: Frames, pts: float) -> int:
    found = int(np.abs(frames.pts - pts).argmin())
    assert frames.pts[found] == pytest.approx(pts, abs=STAMP_S)
    return found


def differences(frames: Frames, all_frames: Frames) -> list[float]:
    """Mean absolute difference, of 255, of each frame to the exact picture with its pts."""
    exact = [all_frames.pixels[at(all_frames, pts)] for pts in frames.pts]
    pairs = zip(frames.pixels.astype(np.int16), exact, strict=True)
    return [float(np.abs(ours - theirs).mean()) for ours, theirs in pairs]


TOLD = [name for name in MOVING if name != "mpeg4"]


@pytest.mark.parametrize("name", MOVING)
def test_keyframe_gives_every_keyframe_bit_for_bit(name: str) -> None:
    frames = run(coded(name), "keyframe")
    assert differences(frames, every(name)) == [0.0] * len(frames)
    assert (frames.asked, frames.max_error_s, frames.stopped) == (len(frames), 0.0, None)
    if name in TOLD:
        assert frames.pts.tolist() == pytest.approx(key_times(coded(name)))


@pytest.mark.parametrize("name", MOVING)
def test_thinned_keyframes_say_what_they_could_not_give(name: str) -> None:
    frames = run(coded(name), "keyframe:0.5")
    keys = np.array(run(coded(name), "keyframe").pts)
    times = np.arange(0, 3, 0.5)
    serving = keys[np.searchsorted(keys, times + STAMP_S, side="right") - 1]
    assert frames.pts.tolist() == pytest.approx(sorted(set(serving.tolist())))
    assert frames.asked == len(times)
    assert frames.max_error_s == pytest.approx(np.abs(times - serving).max(), abs=1e-6)
    assert differences(frames, every(name)) == [0.0] * len(frames)


def test_one_keyframe_is_one_frame_for_all_times() -> None:
    frames = run(coded("h264 one key"), "keyframe:1")
    assert (frames.returned, frames.asked) == (1, 3)
    assert frames.max_error_s == pytest.approx(2.0)


@pytest.mark.parametrize("rate", ["0.4", "1", "3.7"])
@pytest.mark.parametrize("name", MOVING)
def test_fill_lets_near_keyframes_serve_and_decodes_the_rest_exactly(name: str, rate: str) -> None:
    frames = run(coded(name), f"keyframe+fill:{rate}")
    half = 0.5 / float(rate)
    assert differences(frames, every(name)) == [0.0] * len(frames)
    assert frames.max_error_s <= max(half, FRAME_S) + STAMP_S
    assert frames.asked == run(coded(name), f"rate:{rate}").asked
    if name in TOLD:
        keys, exact = key_times(coded(name)), every(name)
        for time in np.arange(frames.asked) / float(rate):
            shown = exact.pts[exact.pts <= time + STAMP_S][-1]
            near = min(keys, key=lambda key: abs(key - time))
            served = near if abs(near - time) <= half and shown not in keys else shown
            at(frames, served)


def test_fill_decodes_less_than_the_rate_where_keyframes_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = coded("h264 no B")  # A keyframe every 0.48 s.
    exact = decoded(data, "rate:2", monkeypatch)
    assert decoded(data, "keyframe+fill:2", monkeypatch) == 6 < exact


@pytest.mark.parametrize("policy", ["rate:1", "rate:7.3", "count:5", "keyframe+fill:2"])
@pytest.mark.parametrize("name", MOVING)
def test_reference_gives_the_last_picture_that_others_need(name: str, policy: str) -> None:
    """Bit for bit the exact picture; early by no more than such pictures are apart."""
    frames = run(coded(name), f"{policy}@reference")
    exact = run(coded(name), policy)
    assert differences(frames, every(name)) == [0.0] * len(frames)
    assert frames.asked == exact.asked
    if name not in TOLD:
        assert frames.pts.tolist() == exact.pts.tolist()
        return
    index = index_of(coded(name))
    usable = np.sort(index.seconds(index.stamps[index.referenced]))
    assert all(np.abs(usable - pts).min() < STAMP_S for pts in frames.pts)
    gap = float(np.diff(usable, append=index.end_s).max())
    assert frames.max_error_s <= exact.max_error_s + gap


def test_reference_passes_b_frames_over(monkeypatch: pytest.MonkeyPatch) -> None:
    data = coded("h264 pyramid")
    index = index_of(data)
    assert 0.4 <= float((~index.referenced).mean()) < 0.8
    seen = decoded(data, "rate:25@reference", monkeypatch)
    assert seen == int(index.referenced.sum()) < len(index)


def test_what_is_called_unreferenced_is_what_the_decoder_leaves_out() -> None:
    for name in ("h264 pyramid", "h264 stream", "h264 in Matroska", "hevc", "hevc open GOP"):
        data = coded(name)
        index = index_of(data)
        with open_source(data, LIMITS) as source:
            given = {frame.pts for _, frame in FrameReader(source, LIMITS, passing=True)}
        assert given == set(index.stamps[index.referenced].tolist()), name


@pytest.mark.parametrize("policy", ["rate:1", "count:5", "keyframe", "scene:0.1-0.6"])
@pytest.mark.parametrize("name", MOVING)
def test_fast_gives_the_pictures_of_reference_nearly(name: str, policy: str) -> None:
    fast, reference = run(coded(name), f"{policy}@fast"), run(coded(name), f"{policy}@reference")
    assert fast.pts.tolist() == reference.pts.tolist()
    assert fast.max_error_s == reference.max_error_s
    assert max(differences(fast, every(name))) <= FAST_MEAN


def test_fast_leaves_the_loop_filter_out() -> None:
    """Else the test above could not fail; and a neighbour's picture is far beyond its tolerance."""
    assert max(differences(run(coded("h264 no B"), "rate:5@fast"), every("h264 no B"))) > 0
    pixels = every("h264 no B").pixels.astype(np.int16)
    assert np.abs(pixels[1:] - pixels[:-1]).mean() > WRONG_MEAN


@pytest.mark.parametrize("policy", ["keyframe", "keyframe:0.5", "keyframe+fill:2", "scene"])
@pytest.mark.parametrize(
    "fields",
    [
        {"options": X264},
        {"options": X264, "container": "mpegts"},
        {"options": X264, "container": "matroska"},
        {"options": X264, "stamps": even(60, 40, start=2500)},
        {"options": X264, "container": "h264"},
        {"stamps": (0, 10, 500, 510, 1300, 1700, 1750, 2000, 2040)},
        {"codec": "mpeg4", "options": (("bf", "2"), ("g", "12"))},
    ],
    ids=str,
)
def test_every_frame_is_the_one_its_pts_says(
    coded: Callable[..., bytes],
    shown: Callable[[Image], int],
    fields: dict[str, Any],
    policy: str,
) -> None:
    data = coded(**{"stamps": even(60, 40), **fields})
    stamps = fields.get("stamps", even(60, 40))
    frames = run(data, policy)
    for frame in frames:
        expected = (stamps[shown(frame.pixels)] - stamps[0]) / 1000
        assert frame.pts == pytest.approx(expected, abs=STAMP_S)
    assert frames.pts[0] == 0
    assert frames.returned <= frames.asked


def test_a_clip_cut_short_keeps_its_keyframes(coded: Callable[..., bytes]) -> None:
    data = coded(stamps=even(100, 40), options=X264, container="matroska")
    whole, half = run(data, "keyframe"), run(data[: len(data) // 2], "keyframe")
    assert half.stopped is not None
    assert 1 <= len(half) < len(whole)
    assert half.pts.tolist() == whole.pts[: len(half)].tolist()


def test_more_keyframes_than_may_be_asked_for_are_refused() -> None:
    from reelsight.errors import MediaError

    limits = MediaLimits(max_frames=2)
    for name in ("keyframe", "keyframe:0.5"):
        with pytest.raises(MediaError, match="limit is 2"):
            decode("c", "c", coded("h264 no B"), Sampling.parse(name), Geometry(32), limits)


@pytest.mark.parametrize("accuracy", ["exact", "reference", "fast"])
@pytest.mark.parametrize("policy", ["rate:1", "count:3", "keyframe", "keyframe+fill:1", "scene"])
def test_real_files_keep_every_promise_about_time(
    videos_dir: Path, policy: str, accuracy: str
) -> None:
    limits = MediaLimits(damage="partial")
    for path in sorted(videos_dir.iterdir()):
        sampling = Sampling.parse(f"{policy}@{accuracy}")
        _, frames = decode("c", path.name, path.read_bytes(), sampling, Geometry(64), limits)
        assert 1 <= frames.returned <= frames.asked, path.name
        assert frames.policy == str(sampling)
        if policy == "keyframe+fill" and accuracy == "exact":
            assert frames.max_error_s <= 0.5 + STAMP_S, path.name


def decoded(data: bytes, name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many pictures come out of the decoder."""
    with counted_pictures(monkeypatch) as seen:
        run(data, name)
    return seen[0]
