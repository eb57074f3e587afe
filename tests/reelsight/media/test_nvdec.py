"""NVDEC over a double of its library: sessions, refusals, and pixels scaled by torch on the CPU.

What is marked `gpu` runs the library itself, where there is one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import Colorspace

torch = pytest.importorskip("torch", reason="NVDEC's surfaces are scaled by torch")

from benchmarks.decode.nvdec_double import Library, Session  # noqa: E402
from reelsight.errors import MediaError  # noqa: E402
from reelsight.media.backends import nvdec  # noqa: E402
from reelsight.media.backends.device_frames import DeviceFrames, DeviceTensor  # noqa: E402
from reelsight.media.backends.device_plan import Yuv  # noqa: E402
from reelsight.media.backends.device_scale import DeviceScaler, planes_of  # noqa: E402
from reelsight.media.backends.negotiate import negotiate  # noqa: E402
from reelsight.media.backends.nvdec import NvdecBackend  # noqa: E402
from reelsight.media.backends.pyav import PyAVBackend  # noqa: E402
from reelsight.media.backends.seam import DecodeBackend  # noqa: E402
from reelsight.media.backends.self_test import self_test  # noqa: E402
from reelsight.media.limits import MediaLimits  # noqa: E402
from reelsight.media.orientation import UPRIGHT  # noqa: E402
from reelsight.media.sampler import Sampling  # noqa: E402
from reelsight.nouns.engine_spec import Geometry  # noqa: E402
from reelsight.nouns.frames import Frames  # noqa: E402
from tests.reelsight.media.moving_clips import coded  # noqa: E402
from tests.reelsight.media.test_nvdec_plan import MEAN, P99  # noqa: E402
from tests.reelsight.media.truth_clips import CASES, X265, Video, make, problems  # noqa: E402

RATE, COUNT = Sampling(rate=4), Sampling("count", count=7)
GEOMETRY, LIMITS = Geometry(224), MediaLimits()
TAKEN = [
    "h264", "hevc", "vp9", "vp9 in mp4", "av1", "av1 in mkv", "variable rate",
    "variable rate, B-frames, mkv", "B-frames", "one keyframe only", "edit list: late start",
    "negative composition offsets", "negative start, webm", "rotation 0", "rotation 90",
    "rotation 180", "rotation 270", "10 bit h264", "10 bit hevc", "10 bit av1", "bt601 limited",
    "bt601 full", "bt709 limited", "bt709 full", "matrix untold, small", "matrix untold, large",
    "odd size",
]  # fmt: skip


def run(backend: DecodeBackend, data: bytes, sampling: Sampling = RATE) -> Frames:
    return backend.decode("c", "c", data, sampling, GEOMETRY, LIMITS)[1]


def on_device(
    backend: NvdecBackend, data: bytes, sampling: Sampling = RATE, geometry: Geometry = GEOMETRY
) -> DeviceFrames:
    return backend.decode_to_device("c", "c", data, sampling, geometry, LIMITS)[1]


def refusal(backend: DecodeBackend, data: bytes) -> str:
    with pytest.raises(MediaError) as caught:
        run(backend, data)
    assert caught.value.code == "media.backend_unsuited"
    return caught.value.message


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def backend(library: Library) -> Iterator[NvdecBackend]:
    made = NvdecBackend(library=library, device="cpu")
    assert made.unusable() is None
    yield made
    made.close()


# What comes out.


@pytest.mark.parametrize("name", TAKEN)
def test_every_promise_is_kept_and_pixels_are_those_of_pyav(
    backend: NvdecBackend, name: str
) -> None:
    data = make(CASES[name])
    for sampling in (RATE, COUNT):
        clip, frames = backend.decode("c", "u", data, sampling, GEOMETRY, LIMITS)
        right_clip, right = PyAVBackend().decode("c", "u", data, sampling, GEOMETRY, LIMITS)
        assert problems(frames, CASES[name]) == []
        assert clip == right_clip
        assert frames.weights.tolist() == pytest.approx(right.weights.tolist(), abs=1e-3)
        error = np.abs(frames.pixels.astype(int) - right.pixels)
        assert error.mean() <= MEAN
        assert np.percentile(error, 99) <= P99


@pytest.mark.parametrize("geometry", [Geometry(64, "shortest"), Geometry(112)])
@pytest.mark.parametrize("name", ["h264 pyramid", "av1", "vp9", "h264 in Matroska"])
def test_moving_textures(backend: NvdecBackend, name: str, geometry: Geometry) -> None:
    given = backend.decode("c", "c", coded(name), COUNT, geometry, LIMITS)[1].pixels
    right = PyAVBackend().decode("c", "c", coded(name), COUNT, geometry, LIMITS)[1].pixels
    error = np.abs(given.astype(int) - right)
    assert error.mean() <= MEAN
    assert np.percentile(error, 99) <= P99


def test_it_passes_the_self_test_and_a_shifted_one_does_not(
    backend: NvdecBackend, library: Library
) -> None:
    assert self_test(backend).failure is None
    offered: list[DecodeBackend] = [PyAVBackend(), backend]
    assert negotiate("auto", RATE, True, offered).backend.name == "nvdec"
    library.shift = -1
    assert "it shows frame 47, not 0" in str(negotiate("auto", RATE, True, offered))


def test_frames_on_the_device_are_the_frames_on_the_host(backend: NvdecBackend) -> None:
    data = make(CASES["rotation 90"])
    frames, host = on_device(backend, data), run(backend, data)
    assert len(frames) == len(host)
    assert frames.pixels.shape == host.pixels.shape
    assert (np.from_dlpack(frames.pixels) == host.pixels).all()
    again = frames.to_host()
    for field in ("clip_id", "end_s", "policy", "asked", "max_error_s", "stopped"):
        assert getattr(again, field) == getattr(host, field)
    assert again.pts.tolist() == host.pts.tolist()
    assert again.starts.tolist() == host.starts.tolist()


def test_pictures_and_times_belong_together(backend: NvdecBackend) -> None:
    frames = on_device(backend, make(CASES["h264"]))
    with pytest.raises(ValueError, match="3 pictures have 10 times"):
        DeviceFrames("c", DeviceTensor(frames.pixels.tensor[:3]), frames.chosen)


def test_surfaces_are_fetched_some_at_a_time(
    backend: NvdecBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The double spoils what it gave out at the next call: nothing may be read late."""
    data = make(CASES["h264"])
    whole = run(backend, data).pixels
    for bound in ({"_SURFACES": 3}, {"_SURFACE_BYTES": 160 * 120 * 3}, {"_SURFACE_BYTES": 1}):
        for name, value in bound.items():
            monkeypatch.setattr(nvdec, name, value)
        assert (run(backend, data).pixels == whole).all()


# The session.


def test_a_session_is_kept_and_pointed_at_the_next_clip(
    backend: NvdecBackend, library: Library
) -> None:
    for name in ("h264", "rotation 90", "variable rate", "odd size", "10 bit hevc"):
        assert problems(run(backend, make(CASES[name])), CASES[name]) == []
    assert (library.created, library.reconfigured) == (1, 4)
    assert library.options["use_device_memory"] is True
    assert library.options["max_width"] == library.options["max_height"] == 2048
    assert library.options["decoder_cache_size"] == 4
    backend.close()
    run(backend, make(CASES["h264"]))
    assert (library.created, library.reconfigured) == (2, 4)


def test_a_clip_beyond_the_session_gets_a_larger_one(
    backend: NvdecBackend, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reelsight.media.backends.nvdec_session._SIDE", 640)
    for name in ("h264", "matrix untold, large", "h264", "matrix untold, large"):
        assert problems(run(backend, make(CASES[name])), CASES[name]) == []
    assert (library.created, library.reconfigured) == (2, 2)
    assert library.options["max_width"] == 1280


def test_two_clips_in_a_row_never_have_one_path(
    backend: NvdecBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []
    opened = Session._open

    def noted(session: Session, path: str) -> None:
        paths.append(path)
        opened(session, path)

    monkeypatch.setattr(Session, "_open", noted)
    for _ in range(4):
        run(backend, make(CASES["h264"]))
    assert len(paths) == 4
    assert all(a != b for a, b in pairwise(paths))
    assert len(set(paths)) == 2, "files are closed again"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("failing", True, "HandlePictureDecode failed"),
        ("miscounted", 2, "it counts 62 pictures where the container holds 60"),
        ("withheld", 1, "of 10 pictures asked for it gave 9"),
        ("cut", 2, r"a surface is uint8\[178, 160\], not 160x120 of 8 bits"),
    ],
)
def test_answers_are_checked_and_a_failed_session_is_dropped(
    backend: NvdecBackend, library: Library, field: str, value: Any, words: str
) -> None:
    data = make(CASES["h264"])
    run(backend, data)
    setattr(library, field, value)
    with pytest.raises(MediaError, match=words) as caught:
        run(backend, data)
    assert caught.value.code == "media.backend_unsuited"
    setattr(library, field, 0)
    assert problems(run(backend, data), CASES["h264"]) == []
    assert (library.created, library.reconfigured) == (2, 1)


def test_a_library_that_cannot_be_opened_refuses_the_clip() -> None:
    class Broken(Library):
        def SimpleDecoder(self, path: str, **options: Any) -> Any:
            raise RuntimeError("\n cuvidCreateDecoder failed\n at NvDecoder.cpp:512")

    backend = NvdecBackend(library=Broken(), device="cpu")
    assert "take this clip: cuvidCreateDecoder failed" in refusal(backend, make(CASES["h264"]))


# What is refused before the library sees it.


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("open GOP", "its GOPs are open"),
        ("mpeg4", "its codec is mpeg4"),
        ("edit list: start cut off", "not shown"),
        ("several video streams", "several video streams"),
        ("truncated mp4", "its end is missing"),
        ("B-frames in a transport stream", "its container is mpegts"),
        ("odd size 4:4:4", "its pictures are yuv444p"),
        ("interlaced", "it is interlaced"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(
    backend: NvdecBackend, library: Library, name: str, why: str
) -> None:
    assert why in refusal(backend, make(CASES[name]))
    assert library.created == 0


def test_a_clip_below_the_hardwares_least_size_is_refused(
    backend: NvdecBackend, library: Library
) -> None:
    small = dataclasses.replace(
        CASES["hevc"], video=Video(codec="libx265", options=X265, width=192, height=128)
    )
    assert "it takes hevc from 144x144 on, not 192x128" in refusal(backend, make(small))
    assert library.created == 0


def test_a_refused_clip_costs_no_session(backend: NvdecBackend, library: Library) -> None:
    run(backend, make(CASES["h264"]))
    refusal(backend, make(CASES["interlaced"]))
    run(backend, make(CASES["h264"]))
    assert (library.created, library.reconfigured) == (1, 1)


def test_samplings_beyond_it_are_refused(backend: NvdecBackend) -> None:
    with pytest.raises(MediaError, match="does not sample by 'keyframe'"):
        run(backend, make(CASES["h264"]), Sampling("keyframe"))
    with pytest.raises(MediaError, match="the limit is 3") as caught:
        backend.decode("c", "c", make(CASES["h264"]), RATE, GEOMETRY, MediaLimits(max_frames=3))
    assert caught.value.code == "media.over_limit"


# Surfaces.


def yuv(width: int = 6, height: int = 4, bits: int = 8) -> Yuv:
    return Yuv(width, height, Colorspace.ITU601, False, True, bits)


def test_strides_in_bytes_are_understood() -> None:
    """PyNvVideoCodec 2.1 gives P016 so; whoever believes it reads every other sample."""
    samples = torch.arange(6 * 12, dtype=torch.int16).view(torch.uint16)
    right = samples.as_strided((6, 6), (6, 1))
    wrong = samples.as_strided((6, 6), (12, 2))
    for surface in (right, wrong):
        luma, chroma = planes_of(surface, yuv(bits=10))
        assert luma.view(torch.int16).tolist() == [list(range(6 * k, 6 * k + 6)) for k in range(4)]
        assert chroma.view(torch.int16).reshape(-1).tolist() == list(range(24, 36))


def test_a_wider_surface_is_a_view_of_what_is_asked_for() -> None:
    padded = torch.arange(6 * 16, dtype=torch.uint8).reshape(6, 16)
    luma, chroma = planes_of(padded[:, :6], yuv())
    assert luma.tolist() == padded[:4, :6].tolist()
    assert chroma.shape == (2, 3, 2)
    assert chroma[1, 0].tolist() == padded[5, :2].tolist()


@pytest.mark.parametrize(
    "surface",
    [
        torch.zeros((6, 8), dtype=torch.uint8),
        torch.zeros((4, 6), dtype=torch.uint8),
        torch.zeros((6, 6), dtype=torch.int16),
        torch.zeros((4, 6, 3), dtype=torch.uint8),
    ],
)
def test_another_surface_is_refused(surface: Any) -> None:
    with pytest.raises(ValueError, match="not 6x4 of 8 bits"):
        planes_of(surface, yuv())


def test_many_pictures_are_scaled_as_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    surfaces: list[npt.NDArray[np.uint8]] = [
        rng.integers(0, 256, (48, 40), np.uint8) for _ in range(5)
    ]
    look = yuv(40, 32), Fraction(1), UPRIGHT, Geometry(16)
    scaler = DeviceScaler(torch.device("cpu"))
    one = scaler.room(5, Geometry(16))
    for k in range(5):
        scaler.scale_into(one[k : k + 1], surfaces[k : k + 1], *look)
    monkeypatch.setattr("reelsight.media.backends.device_scale._SAMPLES", 2 * 40 * 32)
    many = scaler.room(5, Geometry(16))
    scaler.scale_into(many, surfaces, *look)
    assert (many.int() - one.int()).abs().max() <= 1
    assert len(torch.unique(many.reshape(5, -1), dim=0)) == 5


def test_plans_are_kept_and_bounded() -> None:
    scaler = DeviceScaler(torch.device("cpu"))
    surface = np.zeros((48, 40), np.uint8)
    for size in range(8, 40):
        scaler.scale_into(
            scaler.room(1, Geometry(size)),
            [surface],
            yuv(40, 32),
            Fraction(1),
            UPRIGHT,
            Geometry(size),
        )
    assert len(scaler._plans) == 16
    assert next(iter(scaler._plans))[-1] == Geometry(24), "the oldest ones went"


# The library itself.


@pytest.fixture
def real() -> Iterator[NvdecBackend]:
    made = NvdecBackend()
    problem = made.unusable()
    if problem is not None:
        pytest.skip(problem)
    yield made
    made.close()


@pytest.mark.gpu
def test_a_gpu_passes_the_self_test(real: NvdecBackend) -> None:
    assert self_test(real).failure is None


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_is_right_or_refuses(real: NvdecBackend, name: str) -> None:
    """Before and after a clip of another size, so that the session was reconfigured."""
    for before in ("matrix untold, large", "h264"):
        run(real, make(CASES[before]))
        try:
            frames = run(real, make(CASES[name]))
        except MediaError as error:
            assert error.code == "media.backend_unsuited"  # noqa: PT017
            return
        assert problems(frames, CASES[name]) == []
