"""Derived files: their types node by node, how near they stay to the master, what is refused."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from engines.gate.measures import centred_cosine
from engines.precision.calibration import Calibration, calibrate
from engines.precision.derive import Derived, derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import PLANS
from reelsight.errors import EngineError
from tests.engines.precision import handmade
from tests.engines.precision.conftest import Run

Named = Callable[[str], Any]
Make = Callable[[str, str], Derived]

# The smallest centred cosine with the master over unseen frames. Floats lose rounding alone. Eight
# bits of a small net of few channels, or of random weights, lose far more than those of a trained
# CLIP: these bounds catch a wrong scale, axis or zero point, which all end below .5.
LEAST = {
    "fp32": 0.999999,
    "fp16": 0.9995,
    "fp16-norms32": 0.9995,
    "int8": 0.90,
    "int8-fp32": 0.96,
    "fp8": 0.90,
}
TOWERS = ("mini", "vit")


@pytest.fixture(scope="module")
def make(tower: Named, calibration: Named, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Derive once a tower and plan."""
    made: dict[tuple[str, str], Derived] = {}
    directory = tmp_path_factory.mktemp("derived")

    def one(name: str, plan: str) -> Derived:
        key = (name, plan)
        if key not in made:
            path = directory / f"{name}-{plan}.onnx"
            needed = calibration(name) if PLANS[plan].needs_calibration else None
            made[key] = derive(tower(name), PLANS[plan], path, calibration=needed)
        return made[key]

    return one


class Typed:
    """A derived graph with the type of every tensor."""

    def __init__(self, path: Path) -> None:
        self.proto = onnx.shape_inference.infer_shapes(onnx.load(str(path)), strict_mode=True)
        graph = self.proto.graph
        self.weights = {item.name: item for item in graph.initializer}
        self.types = {name: item.data_type for name, item in self.weights.items()}
        for value in (*graph.input, *graph.output, *graph.value_info):
            self.types[value.name] = value.type.tensor_type.elem_type
        self.maker = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def nodes(self, *kinds: str) -> list[Any]:
        return [node for node in self.proto.graph.node if node.op_type in kinds]

    def array(self, name: str) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = numpy_helper.to_array(self.weights[name])
        return found

    def dequantised(self, name: str) -> bool:
        return name in self.maker and self.maker[name].op_type == "DequantizeLinear"


def honest(path: Path, frames: FrameSet) -> list[np.ndarray[Any, Any]]:
    """Outputs by numpy, in exactly the types that the file names."""
    evaluator = ReferenceEvaluator(str(path))
    found: list[np.ndarray[Any, Any]] = evaluator.run(None, {"frames": frames.frames})
    return found


def refused(code: str, *args: Any, **more: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        derive(*args, **more)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("plan", [p for p in PLANS if p != "bf16"])
@pytest.mark.parametrize("name", TOWERS)
def test_derived_tower_agrees_with_its_master(
    name: str, plan: str, make: Make, tower: Named, unseen: Named, run: Run
) -> None:
    rows = run(make(name, plan).path, unseen(name))
    reference = run(tower(name), unseen(name))
    assert rows.dtype == np.float32
    assert rows.shape == reference.shape
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-4)
    assert centred_cosine(reference, rows).min() >= LEAST[plan]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", TOWERS)
def test_interface_and_operator_types(name: str, plan: str, make: Make) -> None:
    """What strongly typed runtimes demand: all floats of an operator are of one type."""
    typed = Typed(make(name, plan).path)
    (given,), (result,) = typed.proto.graph.input, typed.proto.graph.output
    assert (given.name, typed.types["frames"]) == ("frames", TensorProto.UINT8)
    assert (result.name, typed.types["embedding"]) == ("embedding", TensorProto.FLOAT)
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    for node in typed.proto.graph.node:
        kinds = {typed.types[n] for n in node.input if n} & floats
        assert len(kinds) <= 1, node.name
        assert node.op_type != "Cast" or typed.types[node.input[0]] != typed.types[node.output[0]]


@pytest.mark.parametrize(
    ("plan", "low"),
    [
        ("fp16", TensorProto.FLOAT16),
        ("bf16", TensorProto.BFLOAT16),
        ("int8", TensorProto.FLOAT16),
        ("fp8", TensorProto.FLOAT16),
    ],
)
@pytest.mark.parametrize("name", TOWERS)
def test_only_pixels_and_the_last_norm_stay_in_fp32(
    name: str, plan: str, low: int, make: Make
) -> None:
    derived = make(name, plan)
    typed = Typed(derived.path)
    heavy = typed.nodes("Conv", "MatMul", "Gemm", "LayerNormalization", "Softmax", "Gelu", "Relu")
    assert heavy
    assert {typed.types[node.output[0]] for node in heavy} == {low}
    norm = typed.nodes("ReduceL2", "Clip", "Div")
    assert len(norm) == 3
    assert {typed.types[node.output[0]] for node in norm} == {TensorProto.FLOAT}
    assert {k.reason for k in derived.kept if "FP32" in k.reason} == {
        "the final L2 norm is computed in FP32",
        "pixels are normalised in FP32",
    }
    left = [n for n, t in typed.types.items() if t == TensorProto.FLOAT and n in typed.weights]
    assert sum(typed.array(name).size for name in left) <= 8


def test_norms_in_fp32_where_the_plan_says_so(make: Make) -> None:
    typed = Typed(make("vit", "fp16-norms32").path)
    norms = typed.nodes("LayerNormalization", "Softmax")
    assert len(norms) == 2 * 3 + 1
    assert {typed.types[n.output[0]] for n in norms} == {TensorProto.FLOAT}
    assert {typed.types[n.output[0]] for n in typed.nodes("MatMul", "Gemm")} == {
        TensorProto.FLOAT16
    }
    kept = make("vit", "fp16-norms32").kept
    assert sum(k.reason == "norms stay in FP32" for k in kept) == len(norms)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", TOWERS)
def test_same_inputs_give_the_same_bytes(
    name: str, plan: str, make: Make, tower: Named, calibration: Named, tmp_path: Path
) -> None:
    needed = calibration(name) if PLANS[plan].needs_calibration else None
    again = derive(tower(name), PLANS[plan], tmp_path / "again.onnx", calibration=needed)
    first = make(name, plan)
    assert again.path.read_bytes() == first.path.read_bytes()
    assert (again.sha256, again.kept, again.quantised) == (
        first.sha256,
        first.kept,
        first.quantised,
    )
    assert [p.name for p in tmp_path.iterdir()] == ["again.onnx"]


def test_file_says_what_it_was_made_of(make: Make, calibration: Named) -> None:
    derived = make("vit", "int8")
    notes = {p.key: p.value for p in onnx.load(str(derived.path)).metadata_props}
    assert notes == {
        "reelsight.precision": "int8",
        "reelsight.runs_on": "gpu",
        "reelsight.master_sha256": derived.master_sha256,
        "reelsight.calibration_sha256": calibration("vit").sha256,
    }
    assert derived.calibration_sha256 == calibration("vit").sha256


def test_only_the_large_gemms_of_a_transformer_are_quantised(make: Make) -> None:
    derived = make("vit", "int8")
    layers = ("qkv0", "out", "fc0", "mlp0")
    assert sorted(derived.quantised) == sorted(f"b{b}.{k}" for b in (0, 1) for k in layers)
    reasons = {k.node: k.reason for k in derived.kept}
    assert "patch embedding" in reasons["patches"]
    assert "last projection" in reasons["projected"]
    typed = Typed(derived.path)
    for node in typed.nodes("MatMul", "Gemm", "Conv"):
        quantised = [typed.dequantised(name) for name in node.input[:2]]
        assert quantised == [node.name in derived.quantised] * 2, node.name


def test_convolutional_net_has_its_convolutions_and_shortcuts_quantised(make: Make) -> None:
    derived = make("mini", "int8")
    typed = Typed(derived.path)
    convolutions = typed.nodes("Conv")
    assert len(derived.quantised) == len(convolutions) - 1 == 30
    first = next(k for k in derived.kept if "first convolution" in k.reason)
    assert first.node == convolutions[0].name
    joined = [
        node
        for node in typed.nodes("Add")
        if any(typed.maker.get(n) and typed.maker[n].op_type == "Conv" for n in node.input)
    ]
    assert len(joined) == 8, "one a block"
    for node in joined:
        # The branch whose convolution fuses with the addition stays; the shortcut is quantised.
        assert sorted(typed.dequantised(name) for name in node.input) == [False, True]


@pytest.mark.parametrize("name", TOWERS)
def test_int8_is_the_form_that_tensorrt_takes(name: str, make: Make) -> None:
    typed = Typed(make(name, "int8").path)
    pairs = typed.nodes("QuantizeLinear", "DequantizeLinear")
    assert pairs
    for node in pairs:
        scale, zero = typed.array(node.input[1]), typed.array(node.input[2])
        assert zero.dtype == np.int8
        assert not zero.any(), "a zero point"
        assert scale.dtype == np.float16
        assert (scale > 0).all()
    for node in typed.nodes("Conv", "MatMul"):
        if not typed.dequantised(node.input[1]):
            continue
        weights = typed.array(typed.maker[node.input[1]].input[0])
        scales = typed.array(typed.maker[node.input[1]].input[1])
        axis = 0 if node.op_type == "Conv" else 1
        assert scales.shape == (weights.shape[axis],)
        assert np.abs(weights).max() <= 127
        reach = np.abs(weights).max(axis=tuple(k for k in range(weights.ndim) if k != axis))
        # The scales of tiny channels are FP16's coarse subnormals.
        assert ((reach >= 126) | (scales < 2**-14)).all(), "every channel uses its whole range"
        assert not any(typed.dequantised(bias) for bias in node.input[2:])
    readers = Counter(n for node in pairs for n in node.output)
    for name_ in readers:
        if typed.dequantised(name_):
            assert len(typed.readers[name_]) == 1, "fusers match a DQ with one reader"


@pytest.mark.parametrize("name", TOWERS)
def test_weights_are_divided_by_the_scale_that_multiplies_them(
    name: str, make: Make, tower: Named
) -> None:
    master, typed = Typed(tower(name)), Typed(make(name, "int8").path)
    compared = 0
    for node in typed.nodes("Conv", "MatMul"):
        if not typed.dequantised(node.input[1]):
            continue
        source = next(n for n in master.nodes("Conv", "MatMul", "Gemm") if n.name == node.name)
        original = master.array(source.input[1])
        if source.op_type == "Gemm":
            original = original.T
        quantised, scale, _ = (typed.array(n) for n in typed.maker[node.input[1]].input)
        shape = [-1 if k == (node.op_type == "MatMul") else 1 for k in range(quantised.ndim)]
        scale = scale.astype(np.float32).reshape(shape)
        assert (np.abs(quantised * scale - original) <= scale * 0.501).all()
        compared += 1
    assert compared == len(make(name, "int8").quantised)


@pytest.mark.parametrize("name", TOWERS)
def test_fp8_scales_are_the_ranges_over_448(name: str, make: Make, calibration: Named) -> None:
    typed = Typed(make(name, "fp8").path)
    magnitudes = calibration(name).magnitudes
    for node in typed.nodes("QuantizeLinear"):
        assert typed.types[node.input[2]] == TensorProto.FLOAT8E4M3FN
        tensor = node.input[0].removesuffix(".fp16")
        scale = float(typed.array(node.input[1]))
        assert scale == pytest.approx(magnitudes[tensor] / 448, rel=2e-3)
        assert scale * 448 >= magnitudes[tensor] * (1 - 1e-6), "rounded up, so nothing saturates"
    for node in typed.nodes("DequantizeLinear"):
        assert typed.array(node.input[1]).shape == ()


@pytest.mark.parametrize(
    ("name", "kernels"),
    [("mini", {"QLinearConv": 30}), ("vit", {"MatMulIntegerToFloat": 6, "QGemm": 2})],
)
def test_cpu_runtime_fuses_every_quantised_layer(
    name: str, kernels: dict[str, int], make: Make, tmp_path: Path
) -> None:
    """A Q and DQ that ONNX Runtime does not fuse make INT8 slower than FP32."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(make(name, "int8-fp32").path), options, providers=["CPUExecutionProvider"]
    )
    found = Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
    assert {kind: found[kind] for kind in kernels} == kernels


@pytest.mark.parametrize("name", TOWERS)
def test_cpu_runtime_may_optimise_its_own_plan(
    name: str, make: Make, unseen: Named, run: Run
) -> None:
    """ONNX Runtime quantises biases by itself where it can; here nothing is left to it."""
    path = make(name, "int8-fp32").path
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (rows,) = session.run(["embedding"], {"frames": unseen(name).frames})
    # Fused kernels round at other places: half a step of an 8-bit activation here and there.
    assert centred_cosine(run(path, unseen(name)), rows).min() > 0.98


@pytest.mark.parametrize(
    ("plan", "least"), [("fp16", 0.9995), ("fp16-norms32", 0.9995), ("bf16", 0.99)]
)
def test_exact_types_agree_with_the_master(
    plan: str, least: float, make: Make, tower: Named, unseen: Named, run: Run
) -> None:
    """By numpy in FP16 and BF16 themselves, where ONNX Runtime computes in FP32 or not at all."""
    (rows,) = honest(make("vit", plan).path, unseen("vit"))
    assert centred_cosine(run(tower("vit"), unseen("vit")), rows).min() > least


def test_bf16_does_not_run_on_the_cpu(make: Make) -> None:
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        onnxruntime.InferenceSession(
            str(make("vit", "bf16").path), providers=["CPUExecutionProvider"]
        )


def test_uint8_is_touched_by_a_cast_alone(make: Make) -> None:
    for plan in PLANS:
        typed = Typed(make("mini", plan).path)
        kinds = [node.op_type for node in typed.readers["frames"]]
        assert plan == "int8-fp32" or kinds == ["Cast"], plan


def test_fp32_is_the_master_where_nothing_needs_to_change(
    run: Run, unseen: Named, make: Make, tower: Named, tmp_path: Path
) -> None:
    master = handmade.vit(tmp_path / "vit.onnx", cast_first=True)
    same = derive(master, PLANS["fp32"], tmp_path / "out" / "fp32.onnx")
    assert same.path.read_bytes() == master.read_bytes()
    assert same.sha256 == same.master_sha256
    moved = make("vit", "fp32")
    assert moved.sha256 != moved.master_sha256
    # Frame by frame the same arithmetic: a uint8 moves before or after it becomes a float.
    assert np.array_equal(run(moved.path, unseen("vit")), run(tower("vit"), unseen("vit")))


def test_fp32_takes_the_weights_beside_the_graph(run: Run, unseen: Named, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    inside = handmade.vit(tmp_path / "vit.onnx", cast_first=True)
    master = tmp_path / "a" / "image.onnx"
    onnx.save(
        onnx.load(str(inside)),
        str(master),
        save_as_external_data=True,
        location="image.onnx.data",
        size_threshold=1024,
    )
    derived = derive(master, PLANS["fp32"], tmp_path / "b" / "fp32.onnx")
    expected = run(inside, unseen("vit"))
    assert np.array_equal(run(derived.path, unseen("vit")), expected)
    half = derive(master, PLANS["fp16"], tmp_path / "c" / "fp16.onnx")
    assert [p.name for p in half.path.parent.iterdir()] == ["fp16.onnx"]
    assert centred_cosine(expected, run(half.path, unseen("vit"))).min() > LEAST["fp16"]


def test_what_no_fp16_scale_holds_is_left_unquantised(
    vit: Path, calibration: Named, make: Make, tmp_path: Path
) -> None:
    """127 times FP16's end: past it a scale would be infinite, and all of a layer's input zero."""
    found = calibration("vit")
    read = next(n.input[0] for n in onnx.load(str(vit)).graph.node if n.name == "b1.fc0")
    span = found.spans[read]
    spans = {**found.spans, read: replace(span, high=1e7, limit=1e7)}
    fewer = derive(vit, PLANS["int8"], tmp_path / "x.onnx", calibration=replace(found, spans=spans))
    assert set(make("vit", "int8").quantised) - set(fewer.quantised) == {"b1.fc0"}
    assert "reached 1e+07" in {k.node: k.reason for k in fewer.kept}["b1.fc0"]
    for weight in onnx.load(str(fewer.path)).graph.initializer:
        if weight.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
            assert np.isfinite(numpy_helper.to_array(weight)).all(), weight.name


def test_weight_beyond_fp16_stays_in_fp32(unseen: Named, run: Run, tmp_path: Path) -> None:
    master = scaled_vit(tmp_path / "vit.onnx", 4e6)
    derived = derive(master, PLANS["fp16"], tmp_path / "fp16.onnx")
    reasons = {k.node: k.reason for k in derived.kept}
    assert "'b0.fc.w' reaches" in reasons["b0.fc0"]
    assert "65504" in reasons["b0.fc0"]


def test_activation_beyond_fp16_is_seen_by_the_calibration(
    frames: Named, unseen: Named, run: Run, tmp_path: Path
) -> None:
    master = scaled_vit(tmp_path / "vit.onnx", 1e5)
    reference = run(master, unseen("vit"))
    blind = derive(master, PLANS["fp16"], tmp_path / "blind.onnx")
    # Without a calibration the file computes NaN. ONNX Runtime's CPU kernels, which compute FP16 in
    # FP32, hide that; the reference evaluator does not.
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        (overflown,) = honest(blind.path, unseen("vit"))
    assert np.isnan(overflown).any()
    calibrated = calibrate(master, frames("vit"), "minmax", tmp_path / "cache")
    derived = derive(master, PLANS["fp16"], tmp_path / "fp16.onnx", calibration=calibrated)
    reasons = {k.node: k.reason for k in derived.kept}
    assert "reached" in reasons["b0.gelu"]
    assert "b1.gelu" not in reasons
    (rows,) = honest(derived.path, unseen("vit"))
    assert centred_cosine(reference, rows).min() > LEAST["fp16"]
    eight = derive(master, PLANS["int8"], tmp_path / "int8.onnx", calibration=calibrated)
    typed = Typed(eight.path)
    quantised = next(n for n in typed.nodes("MatMul") if n.name == "b0.mlp0")
    assert {typed.types[n] for n in quantised.input} == {TensorProto.FLOAT}
    assert all(typed.dequantised(n) for n in quantised.input), "no cast between DQ and MatMul"


def test_constant_that_fp16_rounds_to_zero_stays_in_fp32(tmp_path: Path) -> None:
    w = handmade.Writer()
    patch = w.normal("patch.weight", 16, 3, 32, 32)
    flat = w.node("Flatten", [w.node("Conv", [handmade.front(w), patch], "patches")], "flat")
    w.weight("epsilon", np.float32(1e-9))
    guarded = w.node("Add", [w.node("Mul", [flat, flat], "squares"), "epsilon"], "guarded")
    handmade.unit_norm(w, w.node("Div", [flat, guarded], "ratio"))
    derived = derive(w.save(tmp_path / "x.onnx", 16), PLANS["fp16"], tmp_path / "fp16.onnx")
    assert "rounds to 0" in {k.node: k.reason for k in derived.kept}["guarded"]


@pytest.mark.parametrize("plan", ["int8", "int8-fp32", "fp8"])
def test_quantising_without_a_calibration_is_refused(plan: str, vit: Path, tmp_path: Path) -> None:
    refused("engine.calibration_missing", vit, PLANS[plan], tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_calibration_of_another_master_is_refused(
    vit: Path, calibration: Callable[[str], Calibration], tmp_path: Path
) -> None:
    other = handmade.vit(tmp_path / "other.onnx", seed=7)
    error = refused(
        "engine.calibration_mismatch",
        other,
        PLANS["int8"],
        tmp_path / "x.onnx",
        calibration=calibration("vit"),
    )
    assert calibration("vit").master_sha256[:12] in error.message


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("plan", ["fp32", "fp16", "int8"])
def test_weights_that_are_no_numbers_are_refused_by_name(
    value: float, plan: str, vit: Path, frames: FrameSet, tmp_path: Path
) -> None:
    proto = onnx.load(str(vit))
    weight = next(w for w in proto.graph.initializer if w.name == "b1.fc.w")
    content = numpy_helper.to_array(weight).copy()
    content[3, 5] = value
    weight.CopyFrom(numpy_helper.from_array(content, "b1.fc.w"))
    onnx.save(proto, str(tmp_path / "broken.onnx"))
    from engines.precision.onnx_graph import sha256_of

    fake = Calibration("minmax", {}, sha256_of(tmp_path / "broken.onnx"), "0" * 64, 1, "1", {})
    error = refused(
        "engine.bad_weights",
        tmp_path / "broken.onnx",
        PLANS[plan],
        tmp_path / "x.onnx",
        calibration=fake if plan == "int8" else None,
    )
    assert "'b1.fc.w' has 1 value" in error.message
    assert not (tmp_path / "x.onnx").exists()


def test_calibration_without_a_tensor_is_refused(vit: Path, tmp_path: Path) -> None:
    from engines.precision.onnx_graph import sha256_of

    empty = Calibration("minmax", {}, sha256_of(vit), "0" * 64, 1, "1", {})
    error = refused(
        "engine.calibration_incomplete", vit, PLANS["int8"], tmp_path / "x", calibration=empty
    )
    assert "8 tensors" in error.message


def test_graph_without_a_large_layer_is_refused(frames: Named, tmp_path: Path) -> None:
    w = handmade.Writer()
    patch = w.normal("patch.weight", 16, 3, 32, 32)
    flat = w.node("Flatten", [w.node("Conv", [handmade.front(w), patch], "patches")], "flat")
    handmade.unit_norm(w, flat)
    master = w.save(tmp_path / "small.onnx", 16)
    found = calibrate(master, frames("vit"), "minmax", tmp_path / "cache")
    refused("engine.nothing_to_quantise", master, PLANS["int8"], tmp_path / "x", calibration=found)


@pytest.mark.parametrize("content", [b"", b"no ONNX at all", "cut"])
def test_damaged_master_is_refused(content: bytes | str, vit: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(vit.read_bytes()[:5000] if isinstance(content, str) else content)
    refused("engine.graph_unreadable", path, PLANS["fp16"], tmp_path / "x.onnx")
    refused("engine.graph_unreadable", tmp_path / "none.onnx", PLANS["fp16"], tmp_path / "x.onnx")


@pytest.mark.parametrize("plan", ["fp32", "fp16"])
def test_unwritable_destination_is_said(plan: str, vit: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused("engine.unwritable", vit, PLANS[plan], tmp_path / "file" / "x.onnx")


def test_older_file_is_replaced_whole(vit: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"old")
    derived = derive(vit, PLANS["fp16"], path)
    onnx.checker.check_model(str(path), full_check=True)
    assert derived.path == path
    assert [p.name for p in tmp_path.iterdir()] == ["x.onnx"]


def scaled_vit(path: Path, factor: float) -> Path:
    """A tower whose first MLP swells by a factor inside and shrinks by it at the end."""
    proto = onnx.load(str(handmade.vit(path)))
    changes = {"b0.fc.w": factor, "b0.fc.b": factor, "b0.proj.w": 1 / factor}
    for weight in proto.graph.initializer:
        if weight.name in changes:
            content = numpy_helper.to_array(weight) * np.float32(changes[weight.name])
            weight.CopyFrom(numpy_helper.from_array(content, weight.name))
    onnx.save(proto, str(path))
    return path


def test_a_master_is_known_by_the_weights_beside_it(vit: Path, tmp_path: Path) -> None:
    """Two fine-tunes of one large architecture differ there alone."""
    from engines.precision.onnx_graph import sha256_of

    digests = set()
    for place, factor in (("a", 1.0), ("b", 1.5)):
        proto = onnx.load(str(vit))
        for weight in proto.graph.initializer:
            if weight.name == "b1.fc.w":
                content = numpy_helper.to_array(weight) * np.float32(factor)
                weight.CopyFrom(numpy_helper.from_array(content, weight.name))
        (tmp_path / place).mkdir()
        path = tmp_path / place / "image.onnx"
        onnx.save(proto, str(path), save_as_external_data=True, location="image.onnx.data")
        digests.add(sha256_of(path))
    graphs = {(tmp_path / place / "image.onnx").read_bytes() for place in "ab"}
    assert len(graphs) == 1
    assert len(digests) == 2
    assert sha256_of(vit) == hashlib.sha256(vit.read_bytes()).hexdigest()


def test_a_graph_that_is_too_large_for_one_file_is_written_in_two(
    vit: Path, unseen: Named, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = derive(vit, PLANS["fp32"], tmp_path / "whole.onnx")
    monkeypatch.setattr("engines.precision.onnx_graph._SINGLE_FILE_BYTES", 10_000)
    made = [derive(vit, PLANS["fp32"], tmp_path / place / "x.onnx") for place in "ab"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["x.onnx", "x.onnx.data"]
    assert made[0].sha256 == made[1].sha256
    assert np.array_equal(run(made[0].path, unseen("vit")), run(whole.path, unseen("vit")))


def test_a_cpu_gets_the_master_as_it_is(vit: Path, tmp_path: Path) -> None:
    for_cpu = derive(vit, PLANS["fp32"], tmp_path / "cpu.onnx", runs_on="cpu")
    for_gpu = derive(vit, PLANS["fp32"], tmp_path / "gpu.onnx", runs_on="gpu")
    assert for_cpu.path.read_bytes() == vit.read_bytes()
    first = onnx.load(str(for_gpu.path)).graph.node[0]
    assert first.op_type == "Cast"
