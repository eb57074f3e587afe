"""What attackers send, one by one: each is refused by name, before anything of it is shown."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reelsight.errors import MediaError
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from tests.reelsight.media.corpus_bombs import HEADS, LISTS, external_reference, lay_canary
from tests.reelsight.media.made_clips import even

LIMITS = MediaLimits()


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lay_canary(tmp_path_factory.mktemp("beside"))


def code_of(data: bytes, limits: MediaLimits = LIMITS) -> str:
    with pytest.raises(MediaError) as caught:
        decode("c", "clip.mp4", data, Sampling(), Geometry(32), limits)
    assert caught.value.hint
    return caught.value.code


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_other_files_never_reach_a_demuxer(canary: Path, name: str) -> None:
    text = LISTS[name].format(path=canary, folder=canary.parent).encode()
    assert code_of(text) == code_of(b"\n  " + text) == "media.unrecognised_container"


@pytest.mark.parametrize("head", HEADS[3:8])
@pytest.mark.parametrize("name", LISTS)
def test_nor_one_of_their_own_behind_the_magic_of_a_container(
    canary: Path, name: str, head: bytes
) -> None:
    text = LISTS[name].format(path=canary, folder=canary.parent).encode()
    assert code_of(head + 20 * text) in (
        "media.unrecognised_container",
        "media.unreadable",
        "media.no_video",
    )


def test_samples_in_another_file_are_not_fetched(canary: Path) -> None:
    codes = {code_of(external_reference(random.Random(seed), canary)) for seed in range(8)}
    assert codes <= {"media.no_frames", "media.undecodable", "media.damaged", "media.unreadable"}


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "h264", "avi"])
def test_more_pictures_than_allowed_are_refused_whether_or_not_the_header_counts_them(
    coded: Callable[..., bytes], container: str
) -> None:
    data = coded(stamps=even(60, 1), clock=25, container=container)
    assert code_of(data, MediaLimits(max_packets=40)) == "media.over_limit"


@pytest.mark.parametrize(
    ("cap", "fields"),
    [
        ({"max_duration_s": 60.0}, {"stamps": (0, 1, 2500)}),
        ({"max_side": 128}, {"stamps": (0, 1), "width": 130}),
        ({"max_megapixels": 0.01}, {"stamps": (0, 1)}),
        ({"max_aspect": 4.0}, {"stamps": (0, 1), "width": 640}),
    ],
)
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_caps_hold_in_every_container(
    coded: Callable[..., bytes], container: str, cap: dict[str, Any], fields: dict[str, Any]
) -> None:
    data = coded(clock=25, container=container, **fields)
    assert code_of(data, MediaLimits(**cap)) == "media.over_limit"


def test_a_picture_that_outgrows_the_cap_in_midstream(coded: Callable[..., bytes]) -> None:
    small = coded(stamps=even(30, 1), clock=25, container="h264")
    large = coded(stamps=even(30, 1), clock=25, container="h264", width=640, height=480)
    limits = MediaLimits(max_side=320)
    assert code_of(small + large, limits) == "media.over_limit"
    few = MediaLimits(max_megapixels=0.2)
    assert code_of(small + large, few) in ("media.over_limit", "media.damaged")
