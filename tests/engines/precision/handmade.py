"""Small towers written node by node, in the shapes that torch's exporter gives a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SIZE, PATCH, WIDTH, HEADS, DIM = 32, 8, 64, 2, 64
TOKENS = (SIZE // PATCH) ** 2


class Writer:
    """Nodes and weights of a graph under construction."""

    def __init__(self, seed: int = 0) -> None:
        import onnx

        self.onnx = onnx
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, content: npt.ArrayLike) -> str:
        array = np.asarray(content)
        self.weights.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def normal(self, name: str, *shape: int, gain: float = 1.0) -> str:
        spread = gain / np.sqrt(shape[0] if len(shape) == 2 else np.prod(shape[1:]))
        return self.weight(name, (self.rng.normal(0, spread, shape)).astype(np.float32))

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        made = self.onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes)
        self.nodes.append(made)
        return output

    def save(self, path: Path, dim: int, size: int = SIZE) -> Path:
        make = self.onnx.helper
        proto = self.onnx.TensorProto
        graph = make.make_graph(
            self.nodes,
            "tower",
            [make.make_tensor_value_info("frames", proto.UINT8, ["n", size, size, 3])],
            [make.make_tensor_value_info("embedding", proto.FLOAT, ["n", dim])],
            self.weights,
        )
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 20)], ir_version=10)
        self.onnx.save(model, str(path))
        return path


def front(w: Writer, *, cast_first: bool = False) -> str:
    """Pixels to normalised NCHW, transposed as uint8 as the exporter does it, or after the cast."""
    float_type = w.onnx.TensorProto.FLOAT
    if cast_first:
        moved = w.node("Cast", ["frames"], "unit", to=float_type)
        pixels = w.node("Transpose", [moved], "nchw", perm=[0, 3, 1, 2])
    else:
        moved = w.node("Transpose", ["frames"], "nchw", perm=[0, 3, 1, 2])
        pixels = w.node("Cast", [moved], "unit", to=float_type)
    w.weight("scale", np.full((1, 3, 1, 1), 1 / 64, np.float32))
    w.weight("shift", np.full((1, 3, 1, 1), -2, np.float32))
    return w.node("Add", [w.node("Mul", [pixels, "scale"], "scaled"), "shift"], "normalised")


def unit_norm(w: Writer, features: str) -> None:
    """The division by the L2 norm that ends every tower."""
    w.weight("last_axis", np.array([-1]))
    w.weight("floor", np.float32(1e-12))
    norm = w.node("ReduceL2", [features, "last_axis"], "l2", keepdims=1)
    w.node("Div", [features, w.node("Clip", [norm, "floor"], "clamped")], "embedding")


def vit(
    path: Path,
    *,
    blocks: int = 2,
    heavy: float = 1.0,
    stem_gain: float = 1.0,
    cast_first: bool = False,
    seed: int = 0,
) -> Path:
    """A vision transformer.

    Args:
        path: The file to write.
        blocks: Of attention and MLP.
        heavy: Factor on one channel of each MLP's hidden layer: tails far beyond the rest.
        stem_gain: Factor on the patch embedding.
        cast_first: Cast pixels before the transposition.
        seed: Of the weights.
    """
    w = Writer(seed)
    patch = w.normal("patch.weight", WIDTH, 3, PATCH, PATCH, gain=stem_gain)
    grid = w.node(
        "Conv", [front(w, cast_first=cast_first), patch], "patches", strides=[PATCH, PATCH]
    )
    flat = w.node("Reshape", [grid, w.weight("flat", [0, WIDTH, -1])], "flattened")
    x = w.node("Transpose", [flat], "tokens", perm=[0, 2, 1])
    x = w.node("Add", [x, w.normal("position", TOKENS, WIDTH)], "positioned")
    w.weight("ones", np.ones(WIDTH, np.float32))
    w.weight("zeros", np.zeros(WIDTH, np.float32))
    for block in range(blocks):
        x = _attention(w, x, f"b{block}")
        x = _mlp(w, x, f"b{block}", heavy)
    x = w.node("LayerNormalization", [x, "ones", "zeros"], "ln_post", axis=-1)
    pooled = w.node("ReduceMean", [x, w.weight("token_axis", [1])], "pooled", keepdims=0)
    unit_norm(w, w.node("MatMul", [pooled, w.normal("proj", WIDTH, DIM)], "projected"))
    return w.save(path, DIM)


def _attention(w: Writer, x: str, name: str) -> str:
    normed = w.node("LayerNormalization", [x, "ones", "zeros"], f"{name}.ln1", axis=-1)
    swapped = w.node("Transpose", [normed], f"{name}.swapped", perm=[1, 0, 2])
    qkv = w.node("MatMul", [swapped, w.normal(f"{name}.qkv.w", WIDTH, 3 * WIDTH)], f"{name}.qkv0")
    qkv = w.node("Add", [qkv, w.normal(f"{name}.qkv.b", 3 * WIDTH)], f"{name}.qkv")
    back = w.node("Transpose", [qkv], f"{name}.back", perm=[1, 0, 2])
    parts = [f"{name}.{p}" for p in "qkv"]
    w.nodes.append(
        w.onnx.helper.make_node("Split", [back], parts, name=f"{name}.split", axis=2, num_outputs=3)
    )
    shape = w.weight(f"{name}.heads", [0, 0, HEADS, WIDTH // HEADS])
    q, k, v = (
        w.node("Transpose", [w.node("Reshape", [p, shape], f"{p}.r")], f"{p}.t", perm=[0, 2, 1, 3])
        for p in parts
    )
    kt = w.node("Transpose", [k], f"{name}.kt", perm=[0, 1, 3, 2])
    w.weight(f"{name}.tau", np.float32((WIDTH // HEADS) ** -0.5))
    scores = w.node("Mul", [w.node("MatMul", [q, kt], f"{name}.qk"), f"{name}.tau"], f"{name}.s")
    mixed = w.node("MatMul", [w.node("Softmax", [scores], f"{name}.p"), v], f"{name}.pv")
    joined = w.node("Transpose", [mixed], f"{name}.joined", perm=[0, 2, 1, 3])
    rows = w.node("Reshape", [joined, w.weight(f"{name}.rows", [-1, WIDTH])], f"{name}.rows2")
    out = w.node(
        "Gemm",
        [rows, w.normal(f"{name}.out.w", WIDTH, WIDTH), w.normal(f"{name}.out.b", WIDTH)],
        f"{name}.out",
        transB=1,
    )
    tokens = w.node("Reshape", [out, w.weight(f"{name}.t", [-1, TOKENS, WIDTH])], f"{name}.out3")
    return w.node("Add", [x, tokens], f"{name}.res1")


def _mlp(w: Writer, x: str, name: str, heavy: float) -> str:
    normed = w.node("LayerNormalization", [x, "ones", "zeros"], f"{name}.ln2", axis=-1)
    hidden = w.rng.normal(0, WIDTH**-0.5, (WIDTH, 4 * WIDTH)).astype(np.float32)
    hidden[:, 0] *= heavy
    w.weight(f"{name}.fc.w", hidden)
    fc = w.node("MatMul", [normed, f"{name}.fc.w"], f"{name}.fc0")
    fc = w.node("Add", [fc, w.normal(f"{name}.fc.b", 4 * WIDTH)], f"{name}.fc")
    gelu = w.node("Gelu", [fc], f"{name}.gelu")
    out = w.node("MatMul", [gelu, w.normal(f"{name}.proj.w", 4 * WIDTH, WIDTH)], f"{name}.mlp0")
    out = w.node("Add", [out, w.normal(f"{name}.proj.b", WIDTH)], f"{name}.mlp")
    return w.node("Add", [x, out], f"{name}.res2")
