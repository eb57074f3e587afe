"""Clips that break off, are damaged, or never were clips: each ends with a reason or a measure."""

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
from tests.reelsight.media.made_clips import Image, even

LIMITS = MediaLimits()
LENIENT = MediaLimits(damage="partial")
X264 = (("preset", "fast"), ("bf", "3"), ("g", "25"))
CODES = {
    "media.unrecognised_container",
    "media.unreadable",
    "media.no_video",
    "media.no_frames",
    "media.codec_refused",
    "media.over_limit",
    "media.undecodable",
    "media.damaged",
}
MUXES: dict[str, dict[str, Any]] = {
    "mp4, index first": {"mux": (("movflags", "faststart"),)},
    "mp4, index last": {},
    "fragments": {"mux": (("movflags", "frag_keyframe+empty_moov"),)},
    "matroska": {"container": "matroska"},
    "transport stream": {"container": "mpegts"},
    "flv": {"container": "flv"},
}
SAMPLINGS = (Sampling(), Sampling("count", count=6))


def outcome(data: bytes, sampling: Sampling, limits: MediaLimits = LIMITS) -> Any:
    """Frames, or the MediaError in their place; anything else fails the test."""
    try:
        return decode("c", "c.mp4", data, sampling, Geometry(48), limits)[1]
    except MediaError as error:
        refused = error
    assert refused.stage == "decode"
    assert refused.code in CODES
    assert refused.hint
    return refused


@pytest.mark.parametrize("name", MUXES)
def test_cut_anywhere_it_is_partial_or_refused_and_never_wrong(
    coded: Callable[..., bytes], shown: Callable[[Image], int], name: str
) -> None:
    data = coded(stamps=even(100, 40), options=X264, **MUXES[name])
    outcomes = []
    for cut in range(1, 40):
        for sampling in SAMPLINGS:
            result = outcome(data[: len(data) * cut // 40], sampling)
            outcomes.append(result)
            if isinstance(result, MediaError):
                continue
            assert [shown(image) for image in result.pixels] == [
                round(at * 25) for at in result.pts
            ]
            assert result.end_s <= 4.09
            if result.partial:
                assert result.returned <= result.asked
                assert result.stopped
                assert result.end_s < 4.0
    kinds = {type(result).__name__ for result in outcomes}
    assert kinds == ({"MediaError"} if name == "mp4, index last" else {"MediaError", "Frames"})


@pytest.mark.parametrize("name", ["mp4, index first", "matroska"])
def test_half_a_clip_says_how_much_there_was(coded: Callable[..., bytes], name: str) -> None:
    data = coded(stamps=even(100, 40), options=X264, **MUXES[name])
    clip, frames = decode(
        "c", "c.mp4", data[: len(data) * 3 // 4], Sampling(rate=5), Geometry(48), LIMITS
    )
    assert frames.partial
    assert frames.asked == 20
    assert 8 <= frames.returned < 19
    assert clip.duration_s == pytest.approx(4.0, abs=0.05)
    assert frames.pts[-1] < frames.end_s < 3.7
    assert frames.weights.sum() == pytest.approx(frames.end_s)


def test_damage_in_the_middle_is_refused_or_partial_as_told(
    coded: Callable[..., bytes], shown: Callable[[Image], int]
) -> None:
    data = bytearray(coded(stamps=even(100, 40), options=X264, **MUXES["mp4, index first"]))
    middle = len(data) * 6 // 10
    data[middle : middle + 300] = b"\xff" * 300
    refused = outcome(bytes(data), Sampling(rate=5))
    assert isinstance(refused, MediaError)
    assert refused.code == "media.damaged"
    assert "coded picture" in str(refused)
    partial = outcome(bytes(data), Sampling(rate=5), LENIENT)
    assert partial.partial
    assert 0 < partial.returned < partial.asked == 20
    assert [shown(image) for image in partial.pixels] == [round(at * 25) for at in partial.pts]


@pytest.mark.parametrize("name", MUXES)
def test_mutated_bytes_always_end_in_frames_or_a_typed_refusal(
    coded: Callable[..., bytes], name: str
) -> None:
    data = coded(stamps=even(50, 40), options=X264, **MUXES[name])
    rng = random.Random(name)
    for _ in range(60):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 4, 30))):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.3:
            start = rng.randrange(len(broken))
            broken[start : start + 200] = bytes(200)
        outcome(bytes(broken), rng.choice(SAMPLINGS), rng.choice((LIMITS, LENIENT)))


def test_a_header_without_frames(coded: Callable[..., bytes]) -> None:
    data = coded(stamps=even(50, 40), **MUXES["fragments"])
    header_only = outcome(data[: data.index(b"moof") - 4], Sampling())
    assert header_only.code == "media.no_frames"


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 64, b"not a video at all, but it has enough letters to be read", b"#EXTM3U\n"],
)
def test_what_never_was_a_clip(data: bytes) -> None:
    assert outcome(data, Sampling()).code == "media.unrecognised_container"


def test_the_corrupted_file_is_refused(videos_dir: Path) -> None:
    data = (videos_dir / "corrupted.mp4").read_bytes()
    for sampling in SAMPLINGS:
        assert outcome(data, sampling).code == "media.damaged"
    lenient = outcome(data, Sampling(), LENIENT)
    assert lenient.partial
    assert (lenient.returned, lenient.asked) == (3, 5)
