from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from reelsight.errors import ConfigError, MediaError
from reelsight.media.backends.decord_cpu import DecordBackend
from reelsight.media.backends.negotiate import negotiate
from reelsight.media.backends.nvdec import NvdecBackend
from reelsight.media.backends.proof_clips import number_shown, proof_clips
from reelsight.media.backends.pyav import PyAVBackend
from reelsight.media.backends.seam import Capabilities, DecodeBackend, unsuited
from reelsight.media.backends.self_test import self_test
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.truth_clips import B_FRAMES, CASES, Case, Video, even, make, problems

RATE = Sampling(rate=4)
GEOMETRY, LIMITS = Geometry(224), MediaLimits()
RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "decode-truth.json"
Change = Callable[[Frames], Frames]


def run(backend: DecodeBackend, data: bytes, sampling: Sampling = RATE) -> Frames:
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


def test_auto_hands_clips_beyond_the_better_one_to_pyav() -> None:
    stand = Stand(same)
    chosen = negotiate("auto", RATE, True, [PyAVBackend(), stand]).backend
    stand.change = refusing
    assert problems(run(chosen, make(CASES["h264"])), CASES["h264"]) == []
    stand.change = damaged
    with pytest.raises(MediaError) as caught:
        run(chosen, make(CASES["h264"]))
    assert caught.value.code == "media.damaged"
    chosen.close()
    assert stand.closed == 1


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


# NVDEC: a double of its library. It shows that sessions are kept and answers checked, and nothing
# about a GPU.


class Session:
    """PyNvVideoCodec.SimpleDecoder by its documented calls, on PyAV."""

    def __init__(self, library: Library, path: str) -> None:
        self.library = library
        self.pictures = self._load(path)

    def _load(self, path: str) -> list[Any]:
        data = Path(path).read_bytes()
        with av.open(io.BytesIO(data), mode="r") as container:
            return [
                frame.to_ndarray(format="rgb24")[: self.library.rows]
                for frame in container.decode(video=0)
            ]

    def __len__(self) -> int:
        return len(self.pictures) + self.library.miscounted

    def reconfigure_decoder(self, path: str) -> None:
        self.library.reconfigured += 1
        self.pictures = self._load(path)

    def get_batch_frames_by_index(self, numbers: list[int]) -> list[Any]:
        if self.library.failing:
            raise Exception("HandlePictureDecode failed")
        return [self.pictures[number + self.library.shift] for number in numbers]


class Library:
    """The module PyNvVideoCodec, as far as it is used."""

    def __init__(self) -> None:
        self.created = self.reconfigured = self.miscounted = self.shift = 0
        self.failing = False
        self.rows: int | None = None
        self.OutputColorType = type("OutputColorType", (), {"RGB": 1})

    def SimpleDecoder(self, path: str, **options: Any) -> Session:
        assert options["use_device_memory"] is False
        assert options["output_color_type"] == 1
        self.created += 1
        return Session(self, path)


def test_nvdec_keeps_its_session() -> None:
    library = Library()
    backend = NvdecBackend(library=library)
    for name in ("h264", "rotation 90", "variable rate", "B-frames"):
        assert problems(run(backend, make(CASES[name])), CASES[name]) == []
    assert (library.created, library.reconfigured) == (1, 3)
    backend.close()
    run(backend, make(CASES["h264"]))
    assert (library.created, library.reconfigured) == (2, 3)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("failing", True, "HandlePictureDecode failed"),
        ("miscounted", 2, "it counts 62 pictures where the container holds 60"),
        ("rows", 100, "not 120x160 RGB"),
    ],
)
def test_nvdec_answers_are_checked_and_a_failed_session_is_dropped(
    field: str, value: Any, words: str
) -> None:
    library = Library()
    backend = NvdecBackend(library=library)
    run(backend, make(CASES["h264"]))
    setattr(library, field, value)
    with pytest.raises(MediaError, match=words) as caught:
        run(backend, make(CASES["h264"]))
    assert caught.value.code == "media.backend_unsuited"
    setattr(library, field, None if field == "rows" else 0)
    run(backend, make(CASES["h264"]))
    assert library.created == 2


def test_nvdec_goes_through_the_self_test() -> None:
    library = Library()
    offered: list[DecodeBackend] = [PyAVBackend(), NvdecBackend(library=library)]
    assert negotiate("auto", RATE, True, offered).backend.name == "nvdec"
    library.shift = -1
    assert "it shows frame 47, not 0" in str(negotiate("auto", RATE, True, offered))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("open GOP", "its GOPs are open"),
        ("mpeg4", "its codec is mpeg4"),
        ("edit list: start cut off", "not shown"),
        ("several video streams", "several video streams"),
        ("truncated mp4", "its end is missing"),
        ("B-frames in a transport stream", "its container is mpegts"),
        ("matrix untold, large", "its colour matrix is not told"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(name: str, why: str) -> None:
    library = Library()
    with pytest.raises(MediaError, match=why) as caught:
        run(NvdecBackend(library=library), make(CASES[name]))
    assert caught.value.code == "media.backend_unsuited"
    assert library.created == 0


def test_the_table_is_of_these_cases() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["cases"]
    assert {row["case"]: row["promise"] for row in rows} == {
        name: case.promise for name, case in CASES.items()
    }
