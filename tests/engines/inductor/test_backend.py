"""What the backend refuses to build and to open, and its words when a build fails."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch program needs torch")


import reelsight.models  # noqa: E402
from engines.backend import BuildRequest, BuildWatch, Target  # noqa: E402
from engines.inductor import builder, runtime  # noqa: E402
from engines.inductor.backend import InductorBackend  # noqa: E402
from engines.inductor.runtime import CpuInductorEngine  # noqa: E402
from engines.precision.plan import plan_named  # noqa: E402
from reelsight.errors import ConfigError, EngineError  # noqa: E402
from reelsight.nouns.model import Model  # noqa: E402


@pytest.fixture
def mini() -> Model:
    return Model.load(reelsight.models.MINI)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build does all but compile, which takes its time."""
    monkeypatch.setattr(builder, "_compile", lambda *given: None)


def request(model: Model, plan: str = "fp32", **options: Any) -> BuildRequest:
    digest = dict(model.sha256)["image"]
    return BuildRequest(model, plan_named(plan), model.image, digest, (1,), options)


def code_of(wanted: BuildRequest, directory: Path) -> str:
    with pytest.raises(EngineError) as caught:
        InductorBackend().build(wanted, directory, BuildWatch())
    return caught.value.code


def test_a_precision_that_it_does_not_run_is_refused(mini: Model, tmp_path: Path) -> None:
    assert code_of(request(mini, "int8-fp32"), tmp_path) == "engine.precision"


def test_a_program_with_a_runtime_of_its_own_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "bucket-1.pt2"
    for needed, refused in ((b"libtorch.so\0libstdc++.so.6\0", False), (b"libtorch.so\0", True)):
        with zipfile.ZipFile(package, "w") as made:
            made.writestr("data/aotinductor/model/a.wrapper.so", b"\x7fELF" + needed)
        if not refused:
            builder.require_shared_runtime(package)
            continue
        with pytest.raises(EngineError, match=r"a\.wrapper\.so is not linked") as caught:
            builder.require_shared_runtime(package)
        assert caught.value.code == "engine.build_failed"


def test_a_file_that_gives_other_embeddings_is_refused(mini: Model, tmp_path: Path) -> None:
    other = dataclasses.replace(mini, dim=mini.dim + 1)
    assert code_of(request(other), tmp_path) == "engine.bad_onnx"


@pytest.mark.parametrize("value", ["no", 0, None])
def test_an_option_that_is_neither_true_nor_false_is_refused(
    mini: Model, tmp_path: Path, value: object
) -> None:
    with pytest.raises(ConfigError, match="kernels is") as caught:
        InductorBackend().build(request(mini, kernels=value), tmp_path, BuildWatch())
    assert caught.value.code == "config.engine_option"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "engine.out_of_memory"),
        (RuntimeError("an illegal instruction"), "engine.build_failed"),
        (OSError(28, "No space left on device"), "engine.build_failed"),
    ],
)
@pytest.mark.parametrize("step", ["Program", "_compile"])
def test_what_torch_raises_in_a_build_is_an_engine_error(
    mini: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    error: Exception,
    code: str,
) -> None:
    def broken(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(builder, step, broken)
    assert code_of(request(mini), tmp_path) == code


@pytest.mark.usefixtures("uncompiled")
def test_weights_that_cannot_be_written_are_named(mini: Model, tmp_path: Path) -> None:
    (tmp_path / builder.WEIGHTS).mkdir()
    assert code_of(request(mini), tmp_path) == "engine.unwritable"


@pytest.mark.usefixtures("uncompiled")
def test_the_details_say_what_was_used(mini: Model, tmp_path: Path) -> None:
    built = InductorBackend().build(request(mini, kernels=True), tmp_path, BuildWatch())
    assert built.details["kernels"] is torch.cuda.is_available()


@pytest.mark.parametrize(
    ("options", "capability", "used"),
    [({}, (9, 0), True), ({"kernels": False}, (9, 0), False), ({"kernels": True}, (8, 9), False)],
)
def test_kernels_are_used_where_they_are_wanted_and_run(
    mini: Model,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    capability: tuple[int, int],
    used: bool,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert builder._uses_kernels(request(mini, **options), "cuda") is used
    assert not builder._uses_kernels(request(mini, **options), "cpu")


def test_packages_of_other_machines_are_refused(mini: Model) -> None:
    backend = InductorBackend()
    here = backend.probe().target
    assert here is not None
    spec = request(mini).spec(backend.name, torch.__version__)
    assert backend.refusal(spec, here) is None

    def refusal(**change: Any) -> str:
        return str(backend.refusal(spec, dataclasses.replace(here, **change)))

    assert "libraries {}" in refusal(libraries={})
    assert "cpu_isa" in refusal(libraries={**here.libraries, "cpu_isa": "another"})
    assert "compute capability 1.0" in refusal(sm="1.0")
    assert "processor riscv64" in refusal(arch="riscv64")
    others: tuple[dict[str, Any], ...] = ({"backend": "tensorrt"}, {"precision": "int8-fp32"})
    for change in others:
        assert "aotinductor does not run" in str(
            backend.refusal(dataclasses.replace(spec, **change), here)
        )
    older = dataclasses.replace(spec, backend_version="1.0")
    assert "torch 1.0" in str(backend.refusal(older, here))


def test_a_target_is_compared_in_what_it_is_asked_to() -> None:
    a = Target("linux", "x86_64", "8.9", "NVIDIA L4", {"torch": "2"})
    b = dataclasses.replace(a, gpu="NVIDIA L40")
    assert a.difference(b) is None, "a name of a GPU is not what code depends on"
    c = dataclasses.replace(a, os="win32", sm="9.0")
    assert a.difference(c) == (
        "it is for operating system linux, here is win32; for compute capability 8.9, here is 9.0"
    )
    assert a.difference(c, of=("arch", "libraries")) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "engine.out_of_memory"),
        (RuntimeError("CUDA error: out of memory"), "engine.out_of_memory"),
        (RuntimeError("not a zip file"), "engine.unloadable"),
    ],
)
def test_a_bucket_that_memory_does_not_hold_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def broken(*given: object, **named: object) -> None:
        raise error

    monkeypatch.setattr(torch._inductor, "aoti_load_package", broken)
    with pytest.raises(EngineError) as caught:
        runtime._load(tmp_path, 1, {})
    assert caught.value.code == code


def test_a_closed_engine_refuses(
    mini: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"w": torch.zeros(1)}
    monkeypatch.setattr(runtime, "_weights", lambda *given: weights)
    monkeypatch.setattr(runtime, "_load", lambda *given: lambda x: torch.zeros(len(x), mini.dim))
    spec = request(mini).spec("aotinductor", torch.__version__)
    engine = CpuInductorEngine(spec, tmp_path, threads=torch.get_num_threads())
    frames = np.zeros((1, 224, 224, 3), np.uint8)
    assert engine.run(frames).shape == (1, mini.dim)
    engine.close()
    engine.close()
    assert not weights
    with pytest.raises(EngineError) as caught:
        engine.run(frames)
    assert caught.value.code == "engine.closed"
