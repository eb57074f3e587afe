"""A pair that was never trained: carriers of smooth noise, a sum of them, and a correlator.

It marks and reads real encodes, so everything around the networks can be tested with it. It stands
in for a trained pair and promises nothing of one's quality.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SIZE, BITS, GRID = 256, 64, 64
# Cycles across the picture. What is lower is the picture's own, what is higher the encoder drops.
BAND = (8.0, 24.0)
# Of the grid's samples; what differs from the mean of so many is looked at, up to so many levels.
_BLUR, _MOST = 5, 12


def carriers(seed: int, bits: int = BITS) -> npt.NDArray[np.float32]:
    """float32 [bits, GRID * GRID]: band-limited noise, orthonormal."""
    noise = np.random.default_rng(seed).standard_normal((bits, GRID, GRID))
    vertical = np.fft.fftfreq(GRID, 1 / GRID)[:, None]
    radius = np.hypot(vertical, np.fft.rfftfreq(GRID, 1 / GRID)[None])
    inside = (radius >= BAND[0]) & (radius <= BAND[1])
    smooth = np.fft.irfft2(np.fft.rfft2(noise) * inside, s=(GRID, GRID)).reshape(bits, -1)
    basis, _ = np.linalg.qr(smooth.T)
    return np.ascontiguousarray(basis.T, np.float32)


def write_pair(
    directory: Path,
    *,
    seed: int = 1,
    bits: int = BITS,
    size: int = SIZE,
    convolutions: bool = False,
) -> Path:
    """Write embedder.onnx, extractor.onnx and CARD.md; returns the directory.

    With `convolutions` the extractor says the same by way of four convolutions and a residual
    addition, which precision plans quantise.
    """
    directory.mkdir(parents=True, exist_ok=True)
    table = carriers(seed, bits)
    _embedder(directory / "embedder.onnx", table, size)
    _extractor(directory / "extractor.onnx", table, size, convolutions=convolutions)
    write_card(directory)
    return directory


def write_card(directory: Path, recipe: str = "reference") -> None:
    """The card of whatever files are there, as the training writes it."""
    rows = [
        f"| `{name}.onnx` | 1.00 MB | 0.0e+00 | `{_sha256(directory / f'{name}.onnx')}` |"
        for name in ("embedder", "extractor")
    ]
    text = "\n".join(
        [
            "# Leak-tracing mark: model card",
            "",
            f"Recipe `{recipe}`, stage `none`, 0 steps in 0.0 minutes of training.",
            "",
            "| file | size | largest error against torch | SHA-256 |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
    (directory / "CARD.md").write_text(text, encoding="utf-8")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Graph:
    def __init__(self) -> None:
        import onnx

        self.onnx = onnx
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def const(self, name: str, value: npt.ArrayLike, dtype: Any = np.float32) -> str:
        self.weights.append(self.onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def save(self, path: Path, inputs: list[Any], outputs: list[Any]) -> None:
        make, types = self.onnx.helper, self.onnx.TensorProto
        kinds = {"u8": types.UINT8, "f32": types.FLOAT}
        ends = [
            [make.make_tensor_value_info(n, kinds[k], ["n", *shape]) for n, k, shape in side]
            for side in (inputs, outputs)
        ]
        graph = make.make_graph(self.nodes, "marks", ends[0], ends[1], self.weights)
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10)
        self.onnx.save(model, str(path))


def _embedder(path: Path, table: npt.NDArray[np.float32], size: int) -> None:
    g = _Graph()
    bits = len(table)
    luma = g.node("Cast", ["luma"], "float", to=1)
    twice = g.node("Mul", ["bits", g.const("two", 2)], "twice")
    signs = g.node("Sub", [twice, g.const("one", 1)], "signs")
    flat = g.node("MatMul", [signs, g.const("table", table)], "flat")
    small = g.node("Reshape", [flat, g.const("grid", [-1, 1, GRID, GRID], np.int64)], "small")
    scales = g.const("scales", [1, 1, size / GRID, size / GRID])
    wide = g.node("Resize", [small, "", scales], "wide", mode="cubic")
    square = g.node("Mul", [wide, wide], "square")
    axes = g.const("axes", [1, 2, 3], np.int64)
    power = g.node("ReduceMean", [square, axes], "power")
    rms = g.node("Sqrt", [power], "rms")
    unit = g.node("Div", [wide, rms], "unit")
    tenths = g.node("Mul", ["strength", g.const("tenths", -np.log(10) / 20)], "exponent")
    share = g.node("Exp", [tenths], "share")
    levels = g.node("Mul", [share, g.const("most", 255)], "levels")
    shaped = g.node("Reshape", [levels, g.const("each", [-1, 1, 1, 1], np.int64)], "shaped")
    drawn = g.node("Mul", [unit, shaped], "drawn")
    marked = g.node("Add", [luma, drawn], "marked")
    held = g.node("Clip", [marked, g.const("low", 0), g.const("high", 255)], "held")
    g.node("Sub", [held, luma], "residual")
    inputs = [("luma", "u8", [1, size, size]), ("bits", "f32", [bits]), ("strength", "f32", [])]
    g.save(path, inputs, [("residual", "f32", [1, size, size])])


def _convolved(g: _Graph, small: str, table: npt.NDArray[np.float32]) -> str:
    """The product with the carriers, of what four convolutions pass on: both signs of 4x4 cells."""
    side, cell = GRID // 4, 16
    stem = np.zeros((2 * cell, 1, 4, 4), np.float32)
    for place in range(cell):
        stem[place, 0, place // 4, place % 4] = 1
        stem[cell + place, 0, place // 4, place % 4] = -1
    # No bit of a picture is ever off by as much as these biases; they are there to be quantised.
    kernel, none = {"kernel_shape": [1, 1]}, g.const("none", np.zeros(2 * cell))
    wide_none = g.const("wide_none", np.zeros(4 * cell))
    one = np.eye(2 * cell, dtype=np.float32)
    twice = g.const("spread", np.concatenate([one, one])[..., None, None])
    half = g.const("joined", np.concatenate([one, one], axis=1)[..., None, None] / 2)
    cells = g.node(
        "Conv",
        [small, g.const("stem", stem), none],
        "cells",
        kernel_shape=[4, 4],
        strides=[4, 4],
    )
    signs = g.node("Relu", [cells], "both_signs")
    first = g.node("Conv", [signs, g.const("pass", one[..., None, None]), none], "first", **kernel)
    lit = g.node("Relu", [first], "lit")
    spread = g.node("Conv", [lit, twice, wide_none], "spread_out", **kernel)
    held = g.node("Relu", [spread], "held_out")
    joined = g.node("Conv", [held, half, none], "joined_again", **kernel)
    both = g.node("Relu", [g.node("Add", [joined, lit], "sum")], "both")
    row = g.node(
        "Reshape", [both, g.const("cells_row", [-1, 2 * cell * side**2], np.int64)], "row_"
    )
    # [bits, GRID, GRID] to [cell, row, column] of a picture in cells, once for each sign.
    placed = table.reshape(-1, side, 4, side, 4).transpose(2, 4, 1, 3, 0).reshape(-1, len(table))
    head = g.const("head", np.concatenate([placed, -placed]) / 2)
    return g.node("MatMul", [row, head], "read")


def _extractor(
    path: Path, table: npt.NDArray[np.float32], size: int, *, convolutions: bool = False
) -> None:
    g = _Graph()
    bits, step = len(table), size // GRID
    luma = g.node("Cast", ["luma"], "float", to=1)
    pooled = {"kernel_shape": [step, step], "strides": [step, step]}
    little = g.node("AveragePool", [luma], "little", **pooled)
    blurred = {"kernel_shape": [_BLUR, _BLUR], "strides": [1, 1], "pads": [_BLUR // 2] * 4}
    blur = g.node("AveragePool", [little], "blur", count_include_pad=0, **blurred)
    high = g.node("Sub", [little, blur], "high")
    small = g.node("Clip", [high, g.const("low", -_MOST), g.const("top", _MOST)], "small")
    flat = g.node("Reshape", [small, g.const("row", [-1, GRID * GRID], np.int64)], "flat")
    read = (
        _convolved(g, small, table)
        if convolutions
        else g.node("MatMul", [flat, g.const("table", table.T.copy())], "read")
    )
    square = g.node("Mul", [flat, flat], "square")
    axis = g.const("axis", [1], np.int64)
    power = g.node("ReduceMean", [square, axis], "power")
    least = g.node("Add", [power, g.const("least", 1e-3)], "least_power")
    rms = g.node("Sqrt", [least], "rms")
    g.node("Div", [read, rms], "logits")
    energy = g.node("Mul", ["logits", "logits"], "energy")
    mean = g.node("ReduceMean", [energy, axis], "mean", keepdims=0)
    g.node("Sub", [mean, g.const("unmarked", 6)], "presence")
    outputs = [("logits", "f32", [bits]), ("presence", "f32", [])]
    g.save(path, [("luma", "u8", [1, size, size])], outputs)
