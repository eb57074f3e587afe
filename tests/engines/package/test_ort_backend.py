from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort
import pytest

from engines.backend import BuildRequest, BuildWatch, Target
from engines.package.directory import open_package
from engines.package.signing import Trust
from engines.precision.plan import plan_named
from engines.runtimes.ort_backend import OrtBackend
from engines.runtimes.ort_cpu import OrtEngine
from reelsight.errors import ConfigError, EngineError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.model import Model

CPU = OrtBackend("onnxruntime-cpu")


def request(model: Model, precision: str = "fp32") -> BuildRequest:
    sha = dict(model.sha256)["image"]
    return BuildRequest(model, plan_named(precision), model.image, sha, (4, 8))


def test_what_was_built_opens_and_is_what_it_says(model: Model, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    artifact = CPU.build(
        request(model), tmp_path, BuildWatch(lambda phase, part: seen.append((phase, part)))
    )
    assert [p.name for p in tmp_path.iterdir()] == list(artifact.files)
    assert seen[-1][1] == 1.0
    assert CPU.refusal(artifact.spec, artifact.target) is None
    engine = CPU.open(artifact.spec, tmp_path, model, threads=1)
    assert engine.spec == artifact.spec
    engine.warmup()
    engine.close()


Changed = Callable[[EngineSpec, Target], tuple[EngineSpec, Target]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s, t: (s, replace(t, os="win32")), "operating system win32, here is linux"),
        (lambda s, t: (s, replace(t, arch="riscv64")), "processor riscv64"),
        (lambda s, t: (s, replace(t, sm="9.0")), "compute capability 9.0, here is None"),
        (
            lambda s, t: (replace(s, backend_version="0.1"), t),
            f"onnxruntime 0.1, here is {ort.__version__}",
        ),
        (lambda s, t: (replace(s, precision="fp16"), t), "does not run fp16"),
        (lambda s, t: (replace(s, backend="tensorrt"), t), "of tensorrt"),
    ],
)
def test_a_package_of_another_machine_is_refused_by_name(
    built: Path, change: Changed, says: str
) -> None:
    manifest = open_package(built, Trust()).manifest
    assert CPU.refusal(manifest.spec, manifest.target) is None
    assert says in (CPU.refusal(*change(manifest.spec, manifest.target)) or "")


def test_what_it_does_not_build(model: Model, tmp_path: Path) -> None:
    watch, good = BuildWatch(), request(model)
    (tmp_path / "big.onnx").write_bytes(model.image.read_bytes())
    (tmp_path / "big.onnx.data").write_bytes(b"weights")
    (tmp_path / "out").mkdir()
    for wrong, code in (
        (request(model, "fp16"), "engine.precision"),
        (replace(good, options={"level": 5}), "config.engine_option"),
        (replace(good, source_sha256="0" * 64), "engine.wrong_onnx"),
        (replace(good, source=tmp_path / "nowhere.onnx"), "engine.bad_onnx"),
        (replace(good, source=tmp_path / "big.onnx"), "engine.external_weights"),
    ):
        with pytest.raises((EngineError, ConfigError)) as caught:
            CPU.build(wrong, tmp_path / "out", watch)
        assert caught.value.code == code


def test_fp16_is_not_opened_on_a_cpu(built: Path, model: Model) -> None:
    """It may crash the process instead of failing."""
    spec = replace(open_package(built, Trust()).manifest.spec, precision="fp16")
    with pytest.raises(EngineError) as caught:
        CPU.open(spec, built, model, threads=1)
    assert caught.value.code == "engine.precision"


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is here")
def test_without_cuda_it_says_so(built: Path, model: Model, tmp_path: Path) -> None:
    cuda = OrtBackend("onnxruntime-cuda")
    state = cuda.probe()
    assert not state.usable
    assert "has no CUDAExecutionProvider" in state.reason
    with pytest.raises(EngineError) as caught:
        cuda.build(request(model), tmp_path, BuildWatch())
    assert caught.value.code == "engine.unavailable"
    spec = open_package(built, Trust()).manifest.spec
    with pytest.raises(EngineError, match="has no CUDAExecutionProvider") as caught:
        OrtEngine(spec, built / "image.onnx", provider="CUDAExecutionProvider")
    assert caught.value.code == "engine.unavailable"


def test_another_name_is_no_backend() -> None:
    with pytest.raises(ConfigError):
        OrtBackend("onnxruntime-rocm")
