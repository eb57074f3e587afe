"""Building with the real TensorRT-RTX: progress, cancelling, and what must be refused."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.backend import BuildRequest, BuildWatch
from engines.cuda.device import driver_problem
from engines.precision.plan import plan_named
from engines.trt.backend import TensorRtBackend
from engines.trt.flavour import TENSORRT_RTX
from reelsight.errors import ConfigError, EngineError
from reelsight.nouns.model import Model

pytestmark = pytest.mark.usefixtures("rtx")

WITHOUT_DRIVER = pytest.mark.skipif(driver_problem() is None, reason="this machine has a GPU")


@pytest.fixture
def backend() -> TensorRtBackend:
    return TensorRtBackend(TENSORRT_RTX)


@pytest.fixture
def mini(model_named: Callable[[str], Model]) -> Model:
    return model_named("reelsight-mini")


@pytest.fixture
def wanted(mini: Model, request_for: Callable[..., BuildRequest]) -> BuildRequest:
    return request_for(mini, "fp16", (1, 4), sm="8.9")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    directory = tmp_path / "package"
    directory.mkdir()
    return directory


def of_file(request: BuildRequest, path: Path) -> BuildRequest:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return dataclasses.replace(request, source=path, source_sha256=digest)


def test_progress_is_told_by_phase(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path
) -> None:
    told: list[tuple[str, float]] = []
    backend.build(wanted, out, BuildWatch(lambda phase, part: told.append((phase, part))))
    phases = [phase for phase, _ in told]
    assert phases[:2] == ["parse", "parse"]
    assert told[-1] == ("build", 1.0)
    assert {"Building engine", "Optimizing graph"} <= set(phases)
    assert all(0.0 <= part <= 1.0 for _, part in told)


def test_a_build_is_cancelled_from_another_thread(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path
) -> None:
    building, cancelled = threading.Event(), threading.Event()

    def on_progress(phase: str, part: float) -> None:
        if phase == "Building engine" and not building.is_set():
            building.set()
            # TensorRT works on while others run; the build stands still here until it is cancelled.
            assert cancelled.wait(30)

    watch = BuildWatch(on_progress)

    def cancel() -> None:
        assert building.wait(30)
        watch.cancel()
        cancelled.set()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(EngineError, match="cancelled") as caught:
        backend.build(wanted, out, watch)
    thread.join()
    assert caught.value.code == "engine.build_cancelled"
    assert list(out.iterdir()) == []
    backend.build(wanted, out, BuildWatch())


def test_what_a_watch_raises_ends_the_build(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path
) -> None:
    def on_progress(phase: str, part: float) -> None:
        if phase == "Optimizing graph":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.build(wanted, out, BuildWatch(on_progress))
    assert list(out.iterdir()) == []


def test_the_master_as_exported_is_refused_with_the_parsers_words(
    backend: TensorRtBackend, mini: Model, wanted: BuildRequest, out: Path
) -> None:
    """TensorRT casts uint8 and does nothing else with it; derive() puts the cast first."""
    with pytest.raises(EngineError, match=r"Transpose.*UInt8") as caught:
        backend.build(of_file(wanted, mini.image), out, BuildWatch())
    assert caught.value.code == "engine.bad_onnx"
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_a_truncated_onnx_file_is_refused(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path, tmp_path: Path, part: float
) -> None:
    content = wanted.source.read_bytes()
    short = tmp_path / "short.onnx"
    short.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(EngineError) as caught:
        backend.build(of_file(wanted, short), out, BuildWatch())
    assert caught.value.code == "engine.bad_onnx"
    assert list(out.iterdir()) == []


def test_an_onnx_file_that_changed_is_refused(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path
) -> None:
    with wanted.source.open("ab") as file:
        file.write(b"\x00")
    with pytest.raises(EngineError, match="has hash") as caught:
        backend.build(wanted, out, BuildWatch())
    assert caught.value.code == "engine.wrong_onnx"
    missing = dataclasses.replace(wanted, source=out / "none.onnx")
    with pytest.raises(EngineError, match=r"none\.onnx") as caught:
        backend.build(missing, out, BuildWatch())
    assert caught.value.code == "engine.bad_onnx"


def graph(path: Path, *, name: str = "frames", dim: int = 128, mixed: bool = False) -> Path:
    """A tower of one product; `mixed` multiplies FP32 by FP16, which strong typing forbids."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((3, dim), np.float16 if mixed else np.float32)
    made = helper.make_graph(
        [
            helper.make_node("Cast", [name], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["embedding"], name="the_product"),
        ],
        "tower",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, ["n", 224, 224, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", dim])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        ],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)]), str(path))
    return path


def test_a_plain_graph_builds(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path, tmp_path: Path
) -> None:
    backend.build(of_file(wanted, graph(tmp_path / "g.onnx")), out, BuildWatch())


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mixed": True}, "the_product"), ({"name": "images"}, "images"), ({"dim": 64}, "64")],
)
def test_a_graph_that_is_no_tower_is_refused(
    backend: TensorRtBackend,
    wanted: BuildRequest,
    out: Path,
    tmp_path: Path,
    change: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(EngineError, match=words) as caught:
        backend.build(of_file(wanted, graph(tmp_path / "g.onnx", **change)), out, BuildWatch())
    assert caught.value.code == "engine.bad_onnx"
    assert list(out.iterdir()) == []


def test_a_plan_that_cannot_be_written_is_an_error(
    backend: TensorRtBackend, wanted: BuildRequest, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(EngineError, match="cannot be written") as caught:
        backend.build(wanted, blocked, BuildWatch())
    assert caught.value.code == "engine.unwritable"
    assert blocked.read_text() == "in the way"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sm": "8.9", "max_workspace_size": 1}, "max_workspace_size"),
        ({"sm": "8.9", "timing_cache": "x"}, "times nothing"),
        ({"sm": "8.9", "hardware": "same-sm"}, "compute capability by `sm`"),
        ({"sm": "8.9", "version_compatible": True}, "one version"),
        ({"sm": "8.9", "optimization_level": 6}, "optimization_level is 6"),
        ({"sm": "8.9", "optimization_level": True}, "optimization_level is True"),
        ({"sm": "8.9", "workspace_mb": 0}, "workspace_mb is 0"),
        ({"sm": "8.9", "tf32": "yes"}, "tf32 is 'yes'"),
        ({"sm": "89"}, "sm is '89'"),
    ],
)
def test_options_are_read_strictly(
    backend: TensorRtBackend,
    wanted: BuildRequest,
    out: Path,
    options: dict[str, Any],
    words: str,
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        backend.build(dataclasses.replace(wanted, options=options), out, BuildWatch())
    assert caught.value.code == "config.engine_option"


def test_options_reach_the_builder(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path
) -> None:
    options = {"sm": "8.9", "optimization_level": 0, "workspace_mb": 256, "tf32": True,
               "detailed": True}  # fmt: skip
    made = backend.build(dataclasses.replace(wanted, options=options), out, BuildWatch())
    assert made.details["options"]["workspace_mb"] == "256"


@pytest.mark.parametrize("sm", ["9.0", "10.0", "7.0"])
def test_gpus_that_rtx_does_not_know_are_named(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path, sm: str
) -> None:
    with pytest.raises(EngineError, match=rf"8\.9.*not for {sm}") as caught:
        backend.build(dataclasses.replace(wanted, options={"sm": sm}), out, BuildWatch())
    assert caught.value.code == "engine.unsupported_gpu"


def test_precisions_of_the_cpu_are_refused(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path
) -> None:
    other = dataclasses.replace(wanted, plan=plan_named("int8-fp32"))
    with pytest.raises(EngineError, match="does not run int8-fp32") as caught:
        backend.build(other, out, BuildWatch())
    assert caught.value.code == "engine.precision"


@WITHOUT_DRIVER
def test_a_machine_without_a_driver_says_so(
    backend: TensorRtBackend, wanted: BuildRequest, out: Path, mini: Model
) -> None:
    """And never gets as far as TensorRT's runtime, which would end the process."""
    found = backend.probe()
    assert not found.usable
    assert "no NVIDIA driver" in found.reason
    assert found.version.startswith("1.")
    made = backend.build(wanted, out, BuildWatch())
    refusal = backend.refusal(made.spec, made.target)
    assert refusal is not None
    assert "no NVIDIA driver" in refusal
    for call in (
        lambda: backend.open(made.spec, out, mini, threads=1),
        lambda: backend.build(dataclasses.replace(wanted, options={}), out, BuildWatch()),
    ):
        with pytest.raises(EngineError, match="no NVIDIA driver") as caught:
            call()
        assert caught.value.code == "engine.no_cuda"
