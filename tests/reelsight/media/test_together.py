"""One pass for several consumers: each gets what a pass of its own gives, from fewer pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reelsight.errors import MediaError
from reelsight.media import active_scaler
from reelsight.media.decode import decode, decode_together
from reelsight.media.decoder import Decoder, InProcess
from reelsight.media.isolation.policy import Isolation
from reelsight.media.isolation.pool import DecodePool
from reelsight.media.limits import MediaLimits
from reelsight.media.look import Look
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.made_films import Film, write_film
from tests.reelsight.media.counted_pictures import counted_pictures
from tests.reelsight.media.made_stills import encoded, numbered_image

LIMITS = MediaLimits()
TAGS = Look(Sampling(rate=2), Geometry(224))
MARKS = Look(Sampling("count", count=12), Geometry(256, "active"))
FILMS = {
    "plain": Film(frames=72, width=192, height=108),
    "boxed": Film(frames=48, width=192, height=144, bars=18),
    "turned": Film(frames=48, width=192, height=108, rotation=90, uneven=True),
    "ten bits": Film(frames=48, width=192, height=108, pix_fmt="yuv420p10le"),
    "full range": Film(frames=48, width=192, height=108, full_range=True),
}


def assert_same(one: Frames, other: Frames) -> None:
    assert one.pixels.tobytes() == other.pixels.tobytes()
    assert np.array_equal(one.pts, other.pts)
    assert np.array_equal(one.weights, other.weights)
    assert (one.end_s, one.asked, one.max_error_s, one.stopped, one.policy) == (
        *(other.end_s, other.asked, other.max_error_s, other.stopped, other.policy),
    )


def alone(data: bytes, look: Look) -> Frames:
    return decode("c", "u", data, look.sampling, look.geometry, LIMITS)[1]


@pytest.mark.parametrize("name", FILMS)
def test_each_look_gets_what_a_pass_of_its_own_gives(name: str, tmp_path: Path) -> None:
    data = write_film(tmp_path / "f.mp4", FILMS[name]).read_bytes()
    clip, frames = decode_together("c", "u", data, (TAGS, MARKS), LIMITS)
    assert clip == decode("c", "u", data, TAGS.sampling, TAGS.geometry, LIMITS)[0]
    for look, found in zip((TAGS, MARKS), frames, strict=True):
        assert_same(found, alone(data, look))


def test_a_picture_is_decoded_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_film(tmp_path / "f.mp4", FILMS["plain"]).read_bytes()
    with counted_pictures(monkeypatch) as apart:
        tags, marks = alone(data, TAGS), alone(data, MARKS)
    with counted_pictures(monkeypatch) as shared:
        decode_together("c", "u", data, (TAGS, MARKS), LIMITS)
    with counted_pictures(monkeypatch) as one:
        alone(data, TAGS)
    wanted = {*tags.pts.tolist(), *marks.pts.tolist()}
    assert len(wanted) <= shared[0] <= FILMS["plain"].frames < apart[0]
    assert one[0] <= shared[0]


def test_pictures_too_large_to_keep_take_another_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_film(tmp_path / "f.mp4", FILMS["boxed"]).read_bytes()
    kept = alone(data, MARKS)
    with counted_pictures(monkeypatch) as seen, monkeypatch.context() as patch:
        patch.setattr(active_scaler.LumaKeeper.__init__, "__defaults__", (192 * 144 * 3,))
        assert_same(alone(data, MARKS), kept)
    with counted_pictures(monkeypatch) as once:
        alone(data, MARKS)
    assert seen[0] == 2 * once[0]


def test_in_a_child_too(tmp_path: Path) -> None:
    data = write_film(tmp_path / "f.mp4", FILMS["plain"]).read_bytes()
    here = InProcess().decode_together("c", "u", data, (TAGS, MARKS), LIMITS)
    with DecodePool(Isolation()) as pool:
        there = pool.decode_together("c", "u", data, (TAGS, MARKS), LIMITS)
        few = MediaLimits(max_frames=5)
        with pytest.raises(MediaError) as told:
            pool.decode_together("c", "u", data, (TAGS, MARKS), few)
    assert told.value.code == "media.over_limit"
    assert here[0] == there[0]
    for one, other in zip(here[1], there[1], strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("strange", [Sampling("scene"), Sampling(accuracy="fast")])
def test_what_a_shared_pass_might_change_is_left_to_passes_of_their_own(
    strange: Sampling, tmp_path: Path
) -> None:
    data = write_film(tmp_path / "f.mp4", FILMS["plain"]).read_bytes()
    decoder: Decoder = InProcess()
    with pytest.raises(MediaError) as told:
        decoder.decode_together("c", "u", data, (Look(strange, Geometry(64)), MARKS), LIMITS)
    assert told.value.code == "media.apart"


def test_a_still_is_one_frame_for_each() -> None:
    data = encoded(numbered_image(3), "JPEG")
    _, frames = decode_together("c", "u", data, (TAGS, MARKS), LIMITS)
    for look, found in zip((TAGS, MARKS), frames, strict=True):
        assert_same(found, alone(data, look))
