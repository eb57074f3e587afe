"""The ladder on models that are broken on purpose."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

import reelsight.models
from engines.backend import BuildWatch
from engines.gate.gate import embed_frames
from engines.gate.ladder import BuildOrder, build_gated
from engines.gate.measures import margins
from engines.gate.thresholds import Thresholds
from engines.package.directory import open_package
from engines.package.node_cache import NodeCache
from engines.package.registry import Registry
from engines.package.signing import Trust
from engines.precision.calibration import Calibration, Span, calibrate
from engines.precision.frameset import FrameSet
from engines.runtimes.ort_backend import OrtBackend
from engines.runtimes.ort_cpu import OrtCpuEngine, OrtEngine
from reelsight.engine import Engine
from reelsight.errors import EngineError, PackageError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.model import Model
from tests.engines.gate.bent import Bent

Limits = Callable[[str], Thresholds]
Order = Callable[..., BuildOrder]


@pytest.fixture(scope="module")
def calibration(
    model: Model, frames: FrameSet, tmp_path_factory: pytest.TempPathFactory
) -> Calibration:
    return calibrate(model.image, frames, "minmax", tmp_path_factory.mktemp("calibrations"))


@pytest.fixture
def order(model: Model, frames: FrameSet, bank: LabelBank, limits: Limits) -> Order:
    def make(precision: str, **changes: object) -> BuildOrder:
        made = BuildOrder(
            model=model,
            precision=precision,
            backend=OrtBackend("onnxruntime-cpu"),
            buckets=(8, 32),
            frames=frames,
            bank=bank,
            frames_words="scenes",
            thresholds=limits,
        )
        return replace(made, **changes)  # type: ignore[arg-type]

    return make


def outcomes(manifest_attempts: object) -> list[tuple[str, str]]:
    return [(a.precision, a.outcome) for a in manifest_attempts]  # type: ignore[attr-defined]


def test_a_good_calibration_stays_on_the_first_rung(
    order: Order, reference: OrtCpuEngine, calibration: Calibration, tmp_path: Path
) -> None:
    wanted = order("int8-fp32", calibration=calibration, bench_s=0.01)
    made = build_gated(wanted, reference, tmp_path)
    assert outcomes(made.attempts) == [("int8-fp32", "passed")]
    assert made.calibration is not None
    assert made.calibration.sha256 == calibration.sha256
    assert made.benchmark is not None
    assert made.benchmark["frames_per_s"] > 0
    assert made.gate is not None
    assert made.gate.frames_words == "scenes"
    assert open_package(tmp_path, Trust()).manifest == made


def test_a_shifted_calibration_is_stopped_and_the_ladder_lands_on_fp32(
    order: Order, reference: OrtCpuEngine, calibration: Calibration, tmp_path: Path
) -> None:
    shifted = replace(
        calibration,
        spans={
            name: Span(span.low / 8, span.high / 8, span.limit / 8)
            for name, span in calibration.spans.items()
        },
    )
    made = build_gated(order("int8-fp32", calibration=shifted), reference, tmp_path)
    assert outcomes(made.attempts) == [("int8-fp32", "failed"), ("fp32", "passed")]
    words = "; ".join(made.attempts[0].reasons)
    assert "mean centred cosine: 0." in words
    assert "needed 0.97" in words
    assert "labels that changed most: " in words
    assert made.spec.precision == "fp32"
    assert made.calibration is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["image.onnx", "manifest.json"]


class Pushing(OrtBackend):
    """Its INT8 engines see one label where the master just does not."""

    def __init__(self, push: Callable[[Engine], Engine]) -> None:
        super().__init__("onnxruntime-cpu")
        self._push = push

    def open(self, spec: EngineSpec, directory: Path, model: Model, *, threads: int) -> Engine:
        engine = super().open(spec, directory, model, threads=threads)
        return self._push(engine) if spec.precision == "int8-fp32" else engine


def test_a_critical_label_demands_the_higher_precision(
    order: Order,
    reference: OrtCpuEngine,
    calibration: Calibration,
    frames: FrameSet,
    bank: LabelBank,
    limits: Limits,
    tmp_path: Path,
) -> None:
    """The same engine is good enough for a bank in which that label is not critical."""
    nearly = margins(embed_frames(reference, frames.frames), bank)
    nearly[nearly > -1e-3] = -np.inf
    label = int(nearly.max(axis=0).argmax())
    step = np.float32(0.06)
    backend = Pushing(lambda engine: Bent(engine, lambda rows: rows + step * bank.matrix[label]))

    def lax(precision: str) -> Thresholds:
        own = limits(precision)
        if precision == "fp32":
            return own
        lowest: dict[str, Any] = {"decisions": 0.5, "shown": 0, "top1": 0, "topk": 0}
        return replace(own, **lowest, centred_mean=-1, centred_p1=-1, rerun_share=1.0)

    labels = [replace(item, critical=i == label) for i, item in enumerate(bank.labels)]
    found = {}
    for critical in (bank, replace(bank, labels=tuple(labels))):
        directory = tmp_path / critical.hash
        directory.mkdir()
        wanted = order(
            "int8-fp32", calibration=calibration, backend=backend, bank=critical, thresholds=lax
        )
        found[critical.hash] = build_gated(wanted, reference, directory)
    plain, demanding = found.values()
    assert outcomes(plain.attempts) == [("int8-fp32", "passed")]
    assert outcomes(demanding.attempts) == [("int8-fp32", "failed"), ("fp32", "passed")]
    assert bank.labels[label].name in demanding.attempts[0].reasons[0]
    assert demanding.refusal is None


def test_a_benchmark_that_fails_costs_no_rung(
    order: Order, reference: OrtCpuEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise EngineError("the device is gone", code="engine.device_lost")

    monkeypatch.setattr("engines.gate.ladder.measure_engine", fail)
    made = build_gated(order("fp32", bench_s=0.01), reference, tmp_path)
    assert outcomes(made.attempts) == [("fp32", "passed")]
    assert made.benchmark is None
    assert made.details["benchmark_failed"] == "engine.device_lost: the device is gone"


def test_what_the_backend_cannot_build_is_said_and_passed_over(
    order: Order, reference: OrtCpuEngine, tmp_path: Path
) -> None:
    made = build_gated(order("int8"), reference, tmp_path)
    assert outcomes(made.attempts) == [
        ("int8", "not_buildable"),
        ("fp16", "not_buildable"),
        ("fp16-norms32", "not_buildable"),
        ("fp32", "passed"),
    ]


def test_a_plan_that_cannot_be_built_is_an_attempt(
    order: Order, reference: OrtCpuEngine, tmp_path: Path
) -> None:
    made = build_gated(order("int8-fp32"), reference, tmp_path)
    assert outcomes(made.attempts) == [("int8-fp32", "build_failed"), ("fp32", "passed")]
    assert made.attempts[0].reasons[0].startswith("engine.calibration_missing: ")


def test_without_the_ladder_the_failed_package_is_kept_and_never_published(
    order: Order, reference: OrtCpuEngine, tmp_path: Path, limits: Limits
) -> None:
    impossible = replace(limits("fp32"), decisions=1.1)
    (tmp_path / "built").mkdir()
    made = build_gated(
        order("fp32", fallback=False, thresholds=lambda _: impossible),
        reference,
        tmp_path / "built",
    )
    assert made.refusal is not None
    assert "the gate stopped it: label decisions that stayed: 1.00000, needed 1.1" in made.refusal
    registry = Registry(str(tmp_path / "registry"), Trust())
    with pytest.raises(PackageError, match="is not published") as caught:
        registry.push(open_package(tmp_path / "built", Trust()))
    assert caught.value.code == "package.gate_failed"
    assert registry.list() == []


def test_when_nothing_passes_every_reason_is_said(
    order: Order, reference: OrtCpuEngine, tmp_path: Path, limits: Limits
) -> None:
    impossible = replace(limits("fp32"), decisions=1.1)
    with pytest.raises(EngineError, match="fp32: failed: label decisions") as caught:
        build_gated(order("int8", thresholds=lambda _: impossible), reference, tmp_path)
    assert caught.value.code == "gate.none_passed"
    assert "int8: not_buildable" in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_build_leaves_nothing(
    order: Order, reference: OrtCpuEngine, tmp_path: Path
) -> None:
    watch = BuildWatch()
    watch.cancel()
    cache = NodeCache(tmp_path)
    wanted = order("fp32")
    with pytest.raises(EngineError) as caught:
        cache.obtain(wanted.key, lambda d: build_gated(wanted, reference, d, watch=watch))
    assert caught.value.code == "engine.build_cancelled"
    assert [p.name for p in tmp_path.iterdir()] == [".locks"]


def test_the_key_follows_what_decides_the_result(order: Order, calibration: Calibration) -> None:
    keys = {
        order("fp32").key,
        order("int8-fp32").key,
        order("int8-fp32", calibration=calibration).key,
        order("fp32", buckets=(8,)).key,
        order("fp32", fallback=False).key,
    }
    assert len(keys) == 5
    assert order("fp32").key == order("fp32", threads=2).key


# FP16 that goes wrong silently: activations past 65504 become infinite.


class Fp16OnCpu(OrtBackend):
    """The CPU provider with FP16, unoptimised, so that every activation is rounded to FP16."""

    @property
    def precisions(self) -> frozenset[str]:
        return super().precisions | {"fp16"}

    def open(self, spec: EngineSpec, directory: Path, model: Model, *, threads: int) -> Engine:
        return UnoptimisedEngine(spec, directory / "image.onnx")


class UnoptimisedEngine(OrtEngine):
    """onnxruntime computes FP16 convolutions in FP32 and drops the casts between two of them.

    Two factors in FP32 behind each convolution bring back where FP16 ends: 65536 x 2**112 is where
    FP32 ends.
    """

    def __init__(self, spec: EngineSpec, path: Path) -> None:
        proto, helper, types = onnx.load(path), onnx.helper, onnx.TensorProto
        for name, exponent in (("up", 112), ("down", -112)):
            constant = np.array(2.0**exponent, dtype=np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(constant, name))
        halves = {i.name for i in proto.graph.initializer if i.data_type == types.FLOAT16}
        nodes = []
        for node in proto.graph.node:
            nodes.append(node)
            if node.op_type == "Conv" and node.input[1] in halves:
                name = node.output[0]
                node.output[0] = f"{name}.0"
                nodes += [
                    helper.make_node("Cast", [f"{name}.0"], [f"{name}.1"], to=types.FLOAT),
                    helper.make_node("Mul", [f"{name}.1", "up"], [f"{name}.2"]),
                    helper.make_node("Mul", [f"{name}.2", "down"], [f"{name}.3"]),
                    helper.make_node("CastLike", [f"{name}.3", f"{name}.0"], [name]),
                ]
        del proto.graph.node[:], proto.graph.value_info[:]
        proto.graph.node.extend(nodes)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        self._spec = spec
        self._session = ort.InferenceSession(
            proto.SerializeToString(), options, ["CPUExecutionProvider"]
        )


def scaled_model(directory: Path, factor: float) -> Model:
    """reelsight-mini with one activation scaled up and the next weights scaled down: in exact
    arithmetic the same model."""
    shutil.copytree(reelsight.models.MINI, directory)
    path = directory / "image.onnx"
    proto = onnx.load(path)
    constants = {item.name: item for item in proto.graph.initializer}
    convolutions = [node for node in proto.graph.node if node.op_type == "Conv"][:2]
    assert len(convolutions[0].input) == 3, "the first convolution has a bias"
    up, bias, down = convolutions[0].input[1], convolutions[0].input[2], convolutions[1].input[1]
    for name, by in ((up, factor), (bias, factor), (down, 1 / factor)):
        array = numpy_helper.to_array(constants[name])
        constants[name].CopyFrom(numpy_helper.from_array((array * by).astype(np.float32), name))
    onnx.save(proto, path)
    document = json.loads((directory / "model.json").read_text())
    content = path.read_bytes()
    document["files"]["image"]["sha256"] = hashlib.sha256(content).hexdigest()
    (directory / "model.json").write_text(json.dumps(document))
    return Model.load(directory)


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return scaled_model(tmp_path_factory.mktemp("scaled") / "model", 2.0**15)


def test_naive_fp16_that_overflows_is_stopped_and_the_ladder_lands_on_fp32(
    order: Order, overflowing: Model, bank: LabelBank, tmp_path: Path
) -> None:
    master = OrtCpuEngine(overflowing, buckets=(8, 32))
    wanted = order(
        "fp16",
        model=overflowing,
        backend=Fp16OnCpu("onnxruntime-cpu"),
        bank=replace(bank, model_hash=overflowing.hash),
    )
    made = build_gated(wanted, master, tmp_path)
    assert outcomes(made.attempts) == [
        ("fp16", "failed"),
        ("fp16-norms32", "not_buildable"),
        ("fp32", "passed"),
    ]
    assert "frames came out NaN or infinite" in made.attempts[0].reasons[0]


def test_fp16_of_the_unscaled_model_passes_on_the_same_backend(
    order: Order, reference: OrtCpuEngine, tmp_path: Path
) -> None:
    made = build_gated(order("fp16", backend=Fp16OnCpu("onnxruntime-cpu")), reference, tmp_path)
    assert outcomes(made.attempts) == [("fp16", "passed")]


def test_fp16_that_knows_the_ranges_keeps_what_overflows(
    order: Order, overflowing: Model, frames: FrameSet, bank: LabelBank, tmp_path: Path
) -> None:
    ranges = calibrate(overflowing.image, frames, "minmax", tmp_path / "calibrations")
    (tmp_path / "out").mkdir()
    made = build_gated(
        order(
            "fp16",
            model=overflowing,
            backend=Fp16OnCpu("onnxruntime-cpu"),
            bank=replace(bank, model_hash=overflowing.hash),
            calibration=ranges,
        ),
        OrtCpuEngine(overflowing, buckets=(8, 32)),
        tmp_path / "out",
    )
    assert outcomes(made.attempts) == [("fp16", "passed")]
