"""A small vision transformer with a class token, as exporters write CLIP's, of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.engines.precision.handmade import Writer, front, unit_norm

_PATCH = 4
_DIM = 32


def class_tower(
    path: Path, *, grid: int, width: int, heads: int, blocks: int = 2
) -> tuple[int, int]:
    """Write it.

    Args:
        path: The file.
        grid: Patches along a side; there are grid * grid + 1 tokens.
        width: Of a token.
        heads: Of attention.
        blocks: Of attention and MLP.

    Returns:
        Side of its frames and length of its embeddings.
    """
    w = Writer(grid)
    stem = w.normal("patch.weight", width, 3, _PATCH, _PATCH)
    cut = w.node("Conv", [front(w), stem], "patches", strides=[_PATCH, _PATCH])
    flat = w.node("Reshape", [cut, w.weight("flat", [0, width, -1])], "flattened")
    x = w.node("Transpose", [flat], "tokens", perm=[0, 2, 1])
    count = w.node("Shape", [x], "count", start=0, end=1)
    shape = w.node("Concat", [count, w.weight("one_row", [1, width])], "class.shape", axis=0)
    first = w.node("Expand", [w.normal("class.token", 1, 1, width), shape], "class.first")
    x = w.node("Concat", [first, x], "with_class", axis=1)
    x = w.node("Add", [x, w.normal("position", grid * grid + 1, width)], "positioned")
    w.weight("ones", np.ones(width, np.float32))
    w.weight("zeros", np.zeros(width, np.float32))
    for block in range(blocks):
        x = _attention(w, x, f"b{block}", width, heads)
        x = _mlp(w, x, f"b{block}", width)
    token = w.node("Gather", [x, w.weight("zeroth", np.int64(0))], "token", axis=1)
    token = w.node("LayerNormalization", [token, "ones", "zeros"], "ln_post", axis=-1)
    unit_norm(w, w.node("MatMul", [token, w.normal("proj", width, _DIM)], "projected"))
    w.save(path, _DIM, grid * _PATCH)
    return grid * _PATCH, _DIM


def _attention(w: Writer, x: str, name: str, width: int, heads: int) -> str:
    normed = w.node("LayerNormalization", [x, "ones", "zeros"], f"{name}.ln1", axis=-1)
    shape = w.weight(f"{name}.heads", [0, 0, heads, width // heads])
    parts: dict[str, str] = {}
    for part in "qkv":
        rows = _linear(w, normed, f"{name}.{part}", width, width)
        split = w.node("Reshape", [rows, shape], f"{name}.{part}.split")
        perm = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        parts[part] = w.node("Transpose", [split], f"{name}.{part}.turned", perm=perm)
    scale = w.weight(f"{name}.tau", np.float32((width // heads) ** -0.5))
    scores = w.node("MatMul", [parts["q"], parts["k"]], f"{name}.qk")
    shares = w.node("Softmax", [w.node("Mul", [scores, scale], f"{name}.s")], f"{name}.p", axis=-1)
    mixed = w.node("MatMul", [shares, parts["v"]], f"{name}.pv")
    joined = w.node("Transpose", [mixed], f"{name}.joined", perm=[0, 2, 1, 3])
    rows = w.node("Reshape", [joined, w.weight(f"{name}.rows", [0, 0, width])], f"{name}.wide")
    return w.node("Add", [x, _linear(w, rows, f"{name}.out", width, width)], f"{name}.res1")


def _mlp(w: Writer, x: str, name: str, width: int) -> str:
    normed = w.node("LayerNormalization", [x, "ones", "zeros"], f"{name}.ln2", axis=-1)
    hidden = w.node("Gelu", [_linear(w, normed, f"{name}.fc", width, 4 * width)], f"{name}.gelu")
    return w.node("Add", [x, _linear(w, hidden, f"{name}.proj", 4 * width, width)], f"{name}.res2")


def _linear(w: Writer, x: str, name: str, k: int, n: int) -> str:
    product = w.node("MatMul", [x, w.normal(f"{name}.w", k, n)], f"{name}.product")
    return w.node("Add", [product, w.normal(f"{name}.b", n)], name)
