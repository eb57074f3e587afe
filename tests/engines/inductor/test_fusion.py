"""What looks like a GEMM or an attention and is another one runs as it was written.

Each tower differs from a plain one in one thing that a kernel would not see. ONNX Runtime, without
its optimiser, says what it computes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch", reason="the torch program needs torch")

from engines.inductor.epilogue import join_epilogues  # noqa: E402
from engines.inductor.fusion import fused  # noqa: E402
from engines.inductor.graph import read  # noqa: E402
from engines.inductor.program import Program  # noqa: E402
from tests.engines.precision.handmade import (  # noqa: E402
    DIM,
    HEADS,
    PATCH,
    SIZE,
    TOKENS,
    WIDTH,
    Writer,
    front,
    unit_norm,
)

# The same FP32 sums in another order; rows are unit vectors.
SUMS_ABS = 1e-5
# One value in many thousands may round to the other side of a half: one step of INT8 in one GEMM.
STEPS_ABS = 2e-3
HEAD = WIDTH // HEADS


def tokens_of(w: Writer) -> str:
    patch = w.normal("patch.weight", WIDTH, 3, PATCH, PATCH)
    grid = w.node("Conv", [front(w), patch], "patches", strides=[PATCH, PATCH])
    flat = w.node("Reshape", [grid, w.weight("flat", [0, WIDTH, -1])], "flattened")
    x = w.node("Transpose", [flat], "tokens", perm=[0, 2, 1])
    return w.node("Add", [x, w.normal("position", TOKENS, WIDTH)], "positioned")


def finish(w: Writer, x: str, path: Path) -> Path:
    pooled = w.node("ReduceMean", [x, w.weight("token_axis", [1])], "mean", keepdims=0)
    unit_norm(w, w.node("MatMul", [pooled, w.normal("proj", WIDTH, DIM)], "projected"))
    return w.save(path, DIM)


def attention(path: Path, change: str) -> Path:
    """A tower of one attention with separate projections, plain but for one change."""
    w = Writer(3)
    x = tokens_of(w)
    heads: dict[str, str] = {}
    for part in "qkv":
        shared = change == "shared keys and values" and part != "q"
        count = 1 if shared else HEADS
        weight = w.normal(f"{part}.w", WIDTH, count * HEAD, gain=4.0)
        rows = w.node("MatMul", [x, weight], f"{part}.rows")
        rows = w.node("Add", [rows, w.normal(f"{part}.b", count * HEAD)], f"{part}.biased")
        shape = w.weight(f"{part}.shape", [0, 0, count, HEAD])
        split = w.node("Reshape", [rows, shape], f"{part}.split")
        heads[part] = w.node("Transpose", [split], f"{part}.heads", perm=[0, 2, 1, 3])
    keys = w.node("Transpose", [heads["k"]], "keys", perm=[0, 1, 3, 2])
    scores = w.node("MatMul", [heads["q"], keys], "scores")
    scores = w.node("Mul", [scores, w.weight("tau", np.float32(HEAD**-0.5))], "tempered")
    if change == "transposed scores":
        scores = w.node("Transpose", [scores], "turned", perm=[0, 1, 3, 2])
    if change == "one softmax for all keys and queries":
        flat = w.weight("flat_scores", [0, HEADS, 1, TOKENS * TOKENS])
        scores = w.node("Reshape", [scores, flat], "flat_rows")
    axis = (
        2 if change == "softmax over queries" else 3 if change == "the last axis by number" else -1
    )
    shares = w.node("Softmax", [scores], "shares", axis=axis)
    if change == "one softmax for all keys and queries":
        square = w.weight("square", [0, HEADS, TOKENS, TOKENS])
        shares = w.node("Reshape", [shares, square], "squared")
    mixed = w.node("MatMul", [shares, heads["v"]], "mixed")
    joined = w.node("Transpose", [mixed], "joined", perm=[0, 2, 1, 3])
    rows = w.node("Reshape", [joined, w.weight("rows", [0, 0, WIDTH])], "rows_of_tokens")
    if change == "half of the tokens":
        steer = [w.weight(n, [v]) for n, v in (("from", 0), ("to", TOKENS // 2), ("along", 1))]
        rows = w.node("Slice", [rows, *steer], "some_rows")
    out = w.node("MatMul", [rows, w.normal("out.w", WIDTH, WIDTH)], "out")
    return finish(w, w.node("Add", [out, w.normal("out.b", WIDTH)], "out.biased"), path)


def quantised(path: Path, change: str) -> Path:
    """A tower of one quantised GEMM, plain but for one change."""
    w = Writer(4)
    x = tokens_of(w)
    there = w.weight("x.scale", np.float32(0.03))
    back = w.weight("x.back", np.float32(0.05)) if change == "another scale back" else there
    zero = w.weight("x.zero", np.int8(9 if change == "an input's zero point" else 0))
    steps = w.node("QuantizeLinear", [x, there, zero], "x.steps")
    rounded = w.node("DequantizeLinear", [steps, back, zero], "x.rounded")
    kind: Any = np.uint8 if change == "an unsigned weight" else np.int8
    low = 0 if kind is np.uint8 else -100
    weight = w.weight("w.steps", w.rng.integers(low, 100, (WIDTH, WIDTH)).astype(kind))
    scales = w.rng.uniform(0.001, 0.02, WIDTH).astype(np.float32)
    scale = w.weight("w.scale", scales)
    point = np.full(WIDTH, 7 if change == "a weight's zero point" else 0, kind)
    axis = 0 if change == "a scale for each input" else 1
    inputs = [weight, scale, w.weight("w.zero", point)]
    if change == "one scale for all":
        inputs = [weight, w.weight("w.one", np.float32(0.01))]
    real = w.node("DequantizeLinear", inputs, "w.real", axis=axis)
    out = w.node("MatMul", [rounded, real], "product")
    return finish(w, w.node("Add", [out, w.normal("b", WIDTH)], "biased"), path)


def gemm(path: Path, bias: tuple[int, ...]) -> Path:
    w = Writer(5)
    x = tokens_of(w)
    flat = w.node("Reshape", [x, w.weight("two_d", [-1, WIDTH])], "two_dimensions")
    added = w.weight("c", w.rng.normal(0, 1, bias).astype(np.float32))
    out = w.node("Gemm", [flat, w.normal("w", WIDTH, WIDTH), added], "gemm")
    return finish(w, w.node("Reshape", [out, w.weight("back", [-1, TOKENS, WIDTH])], "b"), path)


def reading_one_token(path: Path, change: str) -> Path:
    """Attention, a norm, and then one token alone."""
    w = Writer(6)
    attention(path, "")
    inner = w.onnx.load(str(path)).graph
    w.nodes = [
        n for n in inner.node if n.name not in ("mean", "projected", "l2", "clamped", "embedding")
    ]
    w.weights = [i for i in inner.initializer if i.name not in ("proj", "last_axis", "floor")]
    one = [w.weight(n, np.full(WIDTH, v, np.float32)) for n, v in (("ones", 1), ("zeros", 0))]
    axis = 2 if change == "a norm's axis by number" else -1
    x = w.node("LayerNormalization", ["out.biased", *one], "norm", axis=axis)
    if change == "a mean over tokens is added":
        mean = w.node("ReduceMean", [x, "token_axis"], "token_mean", keepdims=1)
        x = w.node("Add", [x, mean], "with_mean")
    token = w.node("Gather", [x, w.weight("first", np.int64(3))], "token", axis=1)
    unit_norm(w, w.node("MatMul", [token, w.normal("last", WIDTH, DIM)], "projected"))
    return w.save(path, DIM)


def compared(path: Path, tolerance: float) -> set[str]:
    """The operators that the program runs; its rows equal ONNX Runtime's."""
    frames = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    expected: npt.NDArray[np.float32] = session.run(None, {"frames": frames})[0]
    graph = fused(read(path), 3)
    join_epilogues(graph)
    program = Program(graph, device="cpu").eval()
    with torch.no_grad():
        rows = program(torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(rows, expected, atol=tolerance)
    return {node.op for node in program.nodes}


@pytest.mark.parametrize("change", ["", "the last axis by number"])
def test_a_plain_attention_is_one_node(tmp_path: Path, change: str) -> None:
    ops = compared(attention(tmp_path / "t.onnx", change), SUMS_ABS)
    assert "Attention" in ops
    assert "Softmax" not in ops


@pytest.mark.parametrize(
    "change",
    [
        "softmax over queries",
        "transposed scores",
        "shared keys and values",
        "one softmax for all keys and queries",
        "half of the tokens",
    ],
)
def test_what_is_another_attention_stays_as_it_was_written(tmp_path: Path, change: str) -> None:
    ops = compared(attention(tmp_path / "t.onnx", change), SUMS_ABS)
    assert "Softmax" in ops
    assert "Attention" not in ops


@pytest.mark.parametrize("change", ["", "one scale for all"])
def test_a_plain_quantised_gemm_is_one_node(tmp_path: Path, change: str) -> None:
    ops = compared(quantised(tmp_path / "t.onnx", change), STEPS_ABS)
    assert "QuantisedLinear" in ops
    assert "DequantizeLinear" not in ops


@pytest.mark.parametrize(
    "change",
    [
        "another scale back",
        "an input's zero point",
        "an unsigned weight",
        "a weight's zero point",
        "a scale for each input",
    ],
)
def test_what_is_quantised_otherwise_stays_as_it_was_written(tmp_path: Path, change: str) -> None:
    ops = compared(quantised(tmp_path / "t.onnx", change), STEPS_ABS)
    assert "DequantizeLinear" in ops
    assert "QuantisedLinear" not in ops


def test_a_gemm_with_a_bias_for_each_row_is_one_node(tmp_path: Path) -> None:
    assert "Gemm" not in compared(gemm(tmp_path / "t.onnx", (WIDTH,)), SUMS_ABS)


@pytest.mark.parametrize("bias", [(), (1,), (1, WIDTH)])
def test_a_gemm_with_another_addend_stays_as_it_was_written(
    tmp_path: Path, bias: tuple[int, ...]
) -> None:
    assert "Gemm" in compared(gemm(tmp_path / "t.onnx", bias), SUMS_ABS)


@pytest.mark.parametrize("change", ["", "a norm's axis by number", "a mean over tokens is added"])
def test_the_last_block_follows_a_token_only_as_far_as_tokens_are_apart(
    tmp_path: Path, change: str
) -> None:
    ops = compared(reading_one_token(tmp_path / "t.onnx", change), SUMS_ABS)
    assert ("TokenAttention" in ops) is (change == "")
