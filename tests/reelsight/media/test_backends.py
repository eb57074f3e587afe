from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reelsight.errors import ConfigError, MediaError
from reelsight.media.backends.decord_cpu import DecordBackend
from reelsight.media.backends.negotiate import negotiate
from reelsight.media.backends.proof_clips import number_shown, proof_clips
from reelsight.media.backends.pyav import PyAVBackend
from reelsight.media.backends.seam import Capabilities, DecodeBackend, unsuited
from reelsight.media.backends.self_test import self_test
from reelsight.media.decode import decode
from reelsight.media.decoder import Decoder, InProcess, OnBackend, open_decoder
from reelsight.media.isolation.policy import Isolation
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from reelsight.settings import MediaSettings
from tests.reelsight.media.truth_clips import B_FRAMES, CASES, Case, Video, even, make, problems

RATE = Sampling(rate=4)
GEOMETRY, LIMITS = Geometry(224), MediaLimits()
RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "decode-truth.json"
Change = Callable[[Frames], Frames]


def run(backend: DecodeBackend | Decoder, data: bytes, sampling: Sampling = RATE) -> Frames:
    return backend.decode("c", "c", data, sampling, GEOMETRY, LIMITS)[1]


class Stand:
    """A backend that changes, or breaks, what PyAV gives."""

    def __init__(self, change: Change, name: str = "nvdec", **capabilities: Any) -> None:
        self.name = name
        self.change = change
        self.closed = 0
        self.capabilities = replace(PyAVBackend.capabilities, **capabilities)

    def unusable(self) -> str | None:
        return None

    def decode(
        self,
        clip_id: str,
        uri: str,
        data: bytes,
        sampling: Sampling,
        geometry: Geometry,
        limits: MediaLimits,
    ) -> tuple[Clip, Frames]:
        clip, frames = decode(clip_id, uri, data, sampling, geometry, limits)
        return clip, self.change(frames)

    def close(self) -> None:
        self.closed += 1


def same(frames: Frames) -> Frames:
    return frames


def broken(frames: Frames) -> Frames:
    raise OSError("the driver is gone")


def refusing(frames: Frames) -> Frames:
    raise unsuited("nvdec", "its GOPs are open")


def damaged(frames: Frames) -> Frames:
    raise MediaError("coded picture 3 is damaged", code="media.damaged")


def with_pixels(change: Callable[[Any], Any]) -> Change:
    return lambda frames: replace(
        frames, pixels=np.ascontiguousarray(change(frames.pixels)).astype(np.uint8)
    )


def test_pyav_is_decode() -> None:
    data = make(CASES["B-frames"])
    clip, frames = PyAVBackend().decode("c", "u", data, RATE, GEOMETRY, LIMITS)
    expected_clip, expected = decode("c", "u", data, RATE, GEOMETRY, LIMITS)
    assert clip == expected_clip
    assert (frames.pixels == expected.pixels).all()
    assert isinstance(PyAVBackend(), DecodeBackend)


def test_capabilities_say_what_is_lacking() -> None:
    takes = Capabilities(
        frozenset(), frozenset(), frozenset({"rate"}), frozenset({"exact"}), True, "cpu"
    )
    assert takes.lacks(RATE) is None
    assert takes.lacks(Sampling("count")) == "it does not sample by 'count'"
    assert takes.lacks(Sampling(accuracy="fast")) == "it knows no accuracy 'fast'"


# The proof clips and the self-test.


def test_proof_clips_show_their_numbers() -> None:
    for clip in proof_clips():
        frames = run(PyAVBackend(), clip.data, Sampling(rate=25))
        shown = [number_shown(image) for image in frames.pixels]
        assert shown == sorted(set(shown))
        assert (shown[0], shown[-1]) == (0, 47)
        if clip.name != "uneven stamps":
            assert shown == list(range(48))


def test_a_backend_that_gives_the_same_passes() -> None:
    passed = self_test(Stand(same))
    assert (passed.backend, passed.clips, passed.failure) == ("nvdec", 5, None)


def bt709_for_bt601(pixels: Any) -> Any:
    kr, kb = 0.299, 0.114
    luma = pixels @ np.array([kr, 1 - kr - kb, kb])
    blue, red = (pixels[..., 2] - luma) / (2 - 2 * kb), (pixels[..., 0] - luma) / (2 - 2 * kr)
    kr, kb = 0.2126, 0.0722
    r, b = luma + (2 - 2 * kr) * red, luma + (2 - 2 * kb) * blue
    return np.stack([r, (luma - kr * r - kb * b) / (1 - kr - kb), b], axis=-1).clip(0, 255)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (with_pixels(lambda p: np.roll(p, 1, axis=0)), "shows frame 45, not 0"),
        (with_pixels(lambda p: p[:, :, ::-1]), "colours are off by"),
        (with_pixels(lambda p: np.roll(p, 5, axis=1)), "pixels are off by"),
        (with_pixels(bt709_for_bt601), "colours are off by"),
        (with_pixels(lambda p: p.astype(float) * 219 / 255 + 16), "colours are off by"),
        (with_pixels(lambda p: p[:, :100]), "pixels are"),
        (lambda f: replace(f, pts=f.pts + 0.04, end_s=f.end_s + 0.04, starts=None), "times are"),
        (broken, "it fails: the driver is gone"),
    ],
)
def test_a_backend_that_differs_is_found_out(change: Change, words: str) -> None:
    failure = self_test(Stand(change)).failure
    assert failure is not None
    assert failure.startswith("on 'B-frames', rate:5: ")
    assert words in failure


def test_a_fault_with_turned_clips_alone_is_found_out() -> None:
    upside = with_pixels(lambda p: p[:, ::-1, ::-1])
    turned = Stand(lambda f: upside(f) if f.clip_id == "turned" else f)
    result = self_test(turned)
    assert result.clips == 4
    assert (result.failure or "").startswith("on 'turned', rate:5: at 0.000 s it shows")


# The negotiator.


def test_auto_takes_pyav_and_says_why() -> None:
    choice = negotiate("auto", RATE, offered=[PyAVBackend(), Stand(same, trusted_only=True)])
    assert choice.backend.name == "pyav"
    assert choice.rejected == (
        ("nvdec", "it is for trusted sources, and media.trusted is not set"),
    )
    assert str(choice) == (
        "pyav: it is the best that runs here; not nvdec: it is for trusted sources, "
        "and media.trusted is not set"
    )


def test_auto_takes_the_better_one_where_it_passes() -> None:
    offered: list[DecodeBackend] = [PyAVBackend(), Stand(same, trusted_only=True)]
    assert negotiate("auto", RATE, True, offered).backend.name == "nvdec"
    shifted = Stand(with_pixels(lambda p: np.roll(p, 1, axis=0)))
    choice = negotiate("auto", RATE, True, [PyAVBackend(), shifted])
    assert choice.backend.name == "pyav"
    assert "failed the self-test on 'B-frames', rate:5: at 0.000 s it shows" in str(choice)


def test_what_auto_took_hands_clips_beyond_it_to_pyav() -> None:
    stand = Stand(same)
    decoder = OnBackend(negotiate("auto", RATE, True, [PyAVBackend(), stand]), InProcess())
    stand.change = refusing
    assert problems(run(decoder, make(CASES["h264"])), CASES["h264"]) == []
    stand.change = damaged
    with pytest.raises(MediaError) as caught:
        run(decoder, make(CASES["h264"]))
    assert caught.value.code == "media.damaged"
    decoder.close()
    assert stand.closed == 1


def test_a_backend_that_was_named_hands_on_stills_alone(tmp_path: Path) -> None:
    stand = Stand(same, "decord")
    decoder = OnBackend(negotiate("decord", RATE, True, [PyAVBackend(), stand]), InProcess())
    stand.change = refusing
    with pytest.raises(MediaError) as caught:
        run(decoder, make(CASES["h264"]))
    assert caught.value.code == "media.backend_unsuited"
    still = tmp_path / "still.png"
    Image.new("RGB", (64, 48), (200, 10, 10)).save(still)
    tries: list[int] = []
    _, frames = decoder.decode(
        "still", "", still.read_bytes(), RATE, Geometry(32), MediaLimits(), tries.append
    )
    assert frames.pixels.shape == (1, 32, 32, 3)
    assert tries == [1]


def test_the_settings_choose_who_decodes() -> None:
    decoding = MediaSettings(backend="decord", trusted=True).decoding
    decoder = open_decoder(decoding, RATE)
    assert isinstance(decoder, OnBackend)
    assert problems(run(decoder, make(CASES["h264"])), CASES["h264"]) == []
    decoder.close()
    with pytest.raises(ConfigError, match=r"media\.trusted is not set"):
        open_decoder(MediaSettings(backend="decord").decoding, RATE)
    plain = open_decoder(MediaSettings(isolation=Isolation(enabled=False)).decoding, RATE)
    assert isinstance(plain, InProcess)


def test_auto_never_takes_decord() -> None:
    assert negotiate("auto", RATE, True, [PyAVBackend(), Stand(same, "decord")]).rejected == ()


@pytest.mark.parametrize(
    ("stand", "sampling", "trusted", "words"),
    [
        (Stand(same, "decord", trusted_only=True), RATE, False, "for trusted sources"),
        (Stand(broken, "decord"), RATE, True, "the driver is gone"),
        (
            Stand(same, "decord", policies=frozenset({"rate"})),
            Sampling("count"),
            True,
            "it does not sample by 'count'",
        ),
    ],
)
def test_one_that_is_named_is_used_or_refused(
    stand: Stand, sampling: Sampling, trusted: bool, words: str
) -> None:
    with pytest.raises(ConfigError, match="decode backend 'decord' cannot be used") as caught:
        negotiate("decord", sampling, trusted, [PyAVBackend(), stand])
    assert words in caught.value.message
    assert caught.value.code == "config.decode_backend"
    stand.change = same
    if sampling.policy == "rate":
        assert negotiate("decord", sampling, True, [stand]).reason == "it was asked for"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="one of auto, pyav, got 'opencv'"):
        negotiate("opencv", RATE, offered=[PyAVBackend()])  # type: ignore[arg-type]


# decord itself, where it is installed.


@pytest.fixture(scope="module")
def decord() -> DecordBackend:
    pytest.importorskip("decord", reason="decord is an optional backend (pip install decord)")
    return DecordBackend()


@pytest.mark.parametrize("name", CASES)
def test_decord_is_right_or_refuses(decord: DecordBackend, name: str) -> None:
    for sampling in (RATE, Sampling("count", count=7)):
        try:
            frames = run(decord, make(CASES[name]), sampling)
        except MediaError as error:
            assert error.code == "media.backend_unsuited"  # noqa: PT017
            return
        assert problems(frames, CASES[name]) == []


@pytest.mark.parametrize(
    "name", ["h264", "hevc", "vp9", "B-frames", "variable rate", "rotation 90", "bt709 full"]
)
def test_decord_takes_the_ordinary(decord: DecordBackend, name: str) -> None:
    assert problems(run(decord, make(CASES[name])), CASES[name]) == []


def test_decord_refuses_what_is_damaged(decord: DecordBackend) -> None:
    case = Case("", Video(even(60), options=B_FRAMES), mux=(("movflags", "faststart"),))
    data = bytearray(make(case))
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(1).bytes(200)
    with pytest.raises(MediaError) as caught:
        run(decord, bytes(data))
    assert caught.value.code == "media.backend_unsuited"


def test_decord_passes_the_self_test(decord: DecordBackend) -> None:
    assert self_test(decord).failure is None
    assert negotiate("decord", RATE, trusted=True).backend.name == "decord"


def test_decord_obeys_our_caps(decord: DecordBackend) -> None:
    with pytest.raises(MediaError, match="the limit is 3") as caught:
        decord.decode("c", "c", make(CASES["h264"]), RATE, GEOMETRY, MediaLimits(max_frames=3))
    assert caught.value.code == "media.over_limit"


def test_the_table_is_of_these_cases() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["cases"]
    assert {row["case"]: row["promise"] for row in rows} == {
        name: case.promise for name, case in CASES.items()
    }
