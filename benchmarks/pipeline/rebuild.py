"""The torch twin of an exported ModifiedResNet image tower: the shipped model, for the torch peers.

The package ships ONNX only. Export folded the batch norms into the convolutions; here each becomes
an identity that costs what it did before, so the twin does the work of the model that was trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import torch

__all__ = ["load_resnet_tower"]

_PREFIX = "model.visual."


def load_resnet_tower(visual: Any, path: Path) -> None:
    """Fill `visual`, an open_clip ModifiedResNet, with the weights of an exported tower."""
    graph = onnx.load(str(path)).graph
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    state = visual.state_dict()
    for name in state:
        if _PREFIX + name in arrays:
            state[name] = _tensor(arrays[_PREFIX + name])
    for node in graph.node:
        if node.op_type == "Conv":
            weight = node.input[1].removeprefix(_PREFIX).removesuffix(".weight")
            bias = arrays[node.input[2]] if len(node.input) > 2 else None
            _identity_norm(visual, state, _norm_after(weight), bias)
    _attention(graph, arrays, state)
    visual.load_state_dict(state)


def _norm_after(convolution: str) -> str:
    """Name of the batch norm behind a convolution in open_clip's ModifiedResNet."""
    head = convolution.rpartition(".")[0]
    return f"{head}.1" if head.endswith("downsample") else convolution.replace("conv", "bn")


def _identity_norm(visual: Any, state: dict[str, Any], name: str, bias: Any) -> None:
    norm = visual.get_submodule(name)
    state[f"{name}.running_mean"] = torch.zeros(norm.num_features)
    state[f"{name}.running_var"] = torch.full((norm.num_features,), 1.0 - norm.eps)
    state[f"{name}.weight"] = torch.ones(norm.num_features)
    state[f"{name}.bias"] = torch.zeros(norm.num_features) if bias is None else _tensor(bias)


def _attention(graph: Any, arrays: dict[str, Any], state: dict[str, Any]) -> None:
    """Query, key and value projections, which export stored transposed under names of its own."""
    width = state["attnpool.q_proj.weight"].shape[0]
    projections = [
        arrays[node.input[1]]
        for node in graph.node
        if node.op_type == "MatMul"
        and node.input[1] in arrays
        and arrays[node.input[1]].shape == (width, width)
    ]
    (joined,) = [a for a in arrays.values() if a.shape == (3 * width,)]
    for name, matrix, bias in zip("qkv", projections, np.split(joined, 3), strict=True):
        state[f"attnpool.{name}_proj.weight"] = _tensor(matrix.T)
        state[f"attnpool.{name}_proj.bias"] = _tensor(bias)


def _tensor(array: Any) -> Any:
    return torch.tensor(array)
