"""What only TensorRT 11 has, over a double of it: timing cache, compatibility, targets.

That the calls exist and take what we give is asked in test_types.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import reelsight.models
from engines.backend import Artifact, BuildRequest, BuildWatch
from engines.precision.plan import plan_named
from engines.trt.backend import TensorRtBackend
from engines.trt.flavour import TENSORRT
from reelsight.errors import EngineError
from reelsight.nouns.model import Model
from tests.engines.cuda.host_device import HostDevice
from tests.engines.trt.fake_tensorrt import FakeTensorRT


@pytest.fixture
def build(backend: TensorRtBackend, tmp_path: Path) -> Callable[..., Artifact]:
    """Build reelsight-mini with these options."""
    model = Model.load(reelsight.models.MINI)
    digest = hashlib.sha256(model.image.read_bytes()).hexdigest()

    def with_options(**options: Any) -> Artifact:
        request = BuildRequest(model, plan_named("fp32"), model.image, digest, (1, 4), options)
        (tmp_path / "out").mkdir(exist_ok=True)
        return backend.build(request, tmp_path / "out", BuildWatch())

    return with_options


def test_the_artifact_says_what_was_built(
    build: Callable[..., Artifact], trt: FakeTensorRT, device: HostDevice
) -> None:
    made = build()
    assert made.files == ("engine.plan",)
    assert (made.spec.backend, made.spec.backend_version) == ("tensorrt", trt.__version__)
    assert made.spec.buckets == (1, 4)
    assert made.target.gpu == device.name
    assert made.target.sm == device.sm
    assert made.target.libraries == {"tensorrt": "11.4.0.106"}
    assert device.closed


def test_fp32_means_fp32_unless_tf32_is_asked_for(
    build: Callable[..., Artifact], trt: FakeTensorRT
) -> None:
    build()
    build(tf32=True)
    assert [trt.BuilderFlag.TF32 in config.flags for config in trt.configs] == [False, True]


def test_a_setting_that_is_changed_without_a_word_is_an_error(
    build: Callable[..., Artifact], trt: FakeTensorRT
) -> None:
    trt.trip["clamp"] = (trt.ErrorCodeTRT.SUCCESS, "")
    with pytest.raises(EngineError, match="builder_optimization_level at 3 instead of 5"):
        build(optimization_level=5)


def test_a_refused_profile_is_an_error(build: Callable[..., Artifact], trt: FakeTensorRT) -> None:
    trt.trip["add_optimization_profile"] = (trt.ErrorCodeTRT.UNSPECIFIED_ERROR, "no such input")
    with pytest.raises(EngineError, match=r"profile \(1, 224, 224, 3\): no such input"):
        build()


def test_a_profile_for_a_misspelt_input_is_an_error(
    build: Callable[..., Artifact], trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT takes it, and would build for a shape that nobody asked for."""
    real: Any = trt.Builder

    def misspelling(logger: Any) -> Any:
        builder = real(logger)
        make = builder.create_optimization_profile

        def create() -> Any:
            profile = make()
            keep = profile.set_shape
            profile.set_shape = lambda name, *shapes: keep(name + "s", *shapes)
            return profile

        builder.create_optimization_profile = create
        return builder

    monkeypatch.setattr(trt, "Builder", misspelling)
    with pytest.raises(EngineError, match="refused the profile"):
        build()


@pytest.mark.parametrize(
    ("words", "code"),
    [("no kernel for node 7", "engine.build_failed"), ("out of memory", "engine.out_of_memory")],
)
def test_a_failed_build_has_tensorrts_words_and_leaves_nothing(
    build: Callable[..., Artifact], trt: FakeTensorRT, tmp_path: Path, words: str, code: str
) -> None:
    trt.trip["build_serialized_network"] = (trt.ErrorCodeTRT.UNSPECIFIED_ERROR, words)
    with pytest.raises(EngineError, match=words) as caught:
        build(timing_cache=str(tmp_path / "timings"))
    assert caught.value.code == code
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "timings").exists()


def test_timings_are_kept_and_given_to_the_next_build(
    build: Callable[..., Artifact], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "timings"
    first = build(timing_cache=str(path))
    assert path.read_bytes() == b"timings+1"
    assert first.details["timing_cache_sha256"] == hashlib.sha256(b"timings+1").hexdigest()
    build(timing_cache=path)
    assert path.read_bytes() == b"timings+1+1"
    assert [file.name for file in path.parent.iterdir()] == ["timings"]


def test_damaged_timings_are_refused_and_left_alone(
    build: Callable[..., Artifact], tmp_path: Path
) -> None:
    path = tmp_path / "timings"
    path.write_bytes(b"of another GPU")
    with pytest.raises(EngineError, match="not of this GPU and library, or damaged") as caught:
        build(timing_cache=path)
    assert caught.value.code == "engine.timing_cache"
    assert path.read_bytes() == b"of another GPU"


def test_timings_that_cannot_be_written_are_refused_before_the_build(
    build: Callable[..., Artifact], trt: FakeTensorRT, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "timings", tmp_path, Path("/proc/timings")):
        with pytest.raises(EngineError, match="cannot be used") as caught:
            build(timing_cache=path)
        assert caught.value.code == "engine.timing_cache"
    assert "build_serialized_network" not in trt.calls


def test_timings_whose_place_vanishes_during_the_build_are_an_error(
    build: Callable[..., Artifact], trt: FakeTensorRT, tmp_path: Path
) -> None:
    path = tmp_path / "place" / "timings"
    real = trt.fails

    def building(name: str, recorder: Any) -> bool:
        if name == "build_serialized_network":
            path.parent.rmdir()
            path.parent.write_text("in the way")
        return real(name, recorder)

    trt.fails = building  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="cannot be written") as caught:
        build(timing_cache=path)
    assert caught.value.code == "engine.timing_cache"
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "sm", "gpu", "library"),
    [
        ({}, "8.9", "Double 9000", "11.4.0.106"),
        ({"hardware": "same-sm"}, "8.9", None, "11.4.0.106"),
        ({"hardware": "ampere-and-newer"}, "8.0+", None, "11.4.0.106"),
        ({"version_compatible": True}, "8.9", "Double 9000", "11.4.0.106+"),
    ],
)
def test_compatibility_widens_the_target(
    build: Callable[..., Artifact],
    backend: TensorRtBackend,
    options: dict[str, Any],
    sm: str,
    gpu: str | None,
    library: str,
) -> None:
    made = build(**options)
    assert (made.target.sm, made.target.gpu) == (sm, gpu)
    assert made.target.libraries == {"tensorrt": library}
    assert backend.refusal(made.spec, made.target) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"os": "windows"}, "operating system windows, here is linux"),
        ({"arch": "aarch64"}, "processor aarch64, here is"),
        ({"sm": "9.0"}, r"SM 9\.0, and Double 9000 is SM 8\.9"),
        ({"sm": "9.0+", "gpu": None}, r"SM 9\.0\+"),
        ({"gpu": "NVIDIA L4"}, "tuned on NVIDIA L4"),
        ({"libraries": {"tensorrt": "11.3.0.1"}}, r"needs TensorRT 11\.3\.0\.1"),
        ({"libraries": {"tensorrt": "11.5.0.1+"}}, r"needs TensorRT 11\.5"),
        ({"libraries": {"tensorrt": "10.9.0.1+"}}, r"needs TensorRT 10\.9"),
        ({"libraries": {}}, "needs TensorRT"),
        ({"libraries": {"tensorrt": "+"}}, r"needs TensorRT \+"),
        ({"libraries": {"tensorrt": "11.next+"}}, r"needs TensorRT 11\.next"),
        ({"sm": "+", "gpu": None}, r"SM \+"),
        ({"sm": "ampere+", "gpu": None}, r"SM ampere"),
        ({"sm": None, "gpu": None}, "SM None"),
    ],
)
def test_engines_of_other_machines_are_refused_with_the_reason(
    build: Callable[..., Artifact],
    backend: TensorRtBackend,
    change: dict[str, Any],
    words: str,
) -> None:
    made = build()
    refusal = backend.refusal(made.spec, dataclasses.replace(made.target, **change))
    assert refusal is not None
    assert re.search(words, refusal), refusal


def test_a_newer_gpu_has_the_higher_capability(
    build: Callable[..., Artifact], backend: TensorRtBackend, device: HostDevice
) -> None:
    target = dataclasses.replace(build().target, sm="8.0+", gpu=None)
    device.sm = "12.0"
    assert backend.refusal(build().spec, target) is None
    device.sm = "7.5"
    assert "SM 8.0+" in str(backend.refusal(build().spec, target))


def test_a_plan_for_later_versions_is_opened(
    build: Callable[..., Artifact], backend: TensorRtBackend, tmp_path: Path
) -> None:
    """It holds host code, which TensorRT runs only where it is told to."""
    made = build(version_compatible=True)
    model = Model.load(reelsight.models.MINI)
    backend.open(made.spec, tmp_path / "out", model, threads=1).close()


def test_engines_of_other_backends_and_later_versions(
    build: Callable[..., Artifact], backend: TensorRtBackend
) -> None:
    made = build()
    other = dataclasses.replace(made.spec, backend="tensorrt-rtx")
    assert "an engine of tensorrt-rtx" in str(backend.refusal(other, made.target))
    earlier = dataclasses.replace(made.target, libraries={"tensorrt": "11.2.0.9+"})
    assert backend.refusal(made.spec, earlier) is None


def test_a_version_that_is_not_spoken_is_refused(
    backend: TensorRtBackend, trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTensorRT, "__version__", "10.16.1.11")
    found = backend.probe()
    assert not found.usable
    assert "10.16.1.11 is installed and 11.x is needed" in found.reason
    assert found.target is None
    with pytest.raises(EngineError) as caught:
        TENSORRT.load()
    assert caught.value.code == "engine.backend_version"


def test_a_library_that_is_not_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = TensorRtBackend(TENSORRT).probe()
    assert not found.usable
    assert "tensorrt does not import" in found.reason
    assert found.version == ""


def test_an_old_gpu_is_refused(backend: TensorRtBackend, device: HostDevice) -> None:
    device.sm = "7.0"
    found = backend.probe()
    assert not found.usable
    assert "7.5 and newer, and not for 7.0" in found.reason
    device.sm = "9.0"
    assert backend.probe().usable
