"""Selection: which layers of a tower are worth quantising, and why the others are not.

Transformers: the GEMMs of QKV, out-projection and MLP. Convolutional nets: the convolutions after
the first, and the residual additions between them. It reads a graph and changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engines.precision.onnx_graph import OnnxGraph

__all__ = ["Selection", "is_convolutional", "select"]

# Smaller GEMMs gain less than their Q and DQ cost.
_MIN_GEMM_SIDE = 64
_WEIGHED = frozenset({"Conv", "MatMul", "Gemm"})


@dataclass(slots=True)
class Selection:
    """What to quantise.

    Attributes:
        gemms: MatMul and Gemm nodes with constant weights.
        convolutions: Conv nodes.
        residuals: Add nodes that join the branches of a block.
        kept: Other layers with weights, each with the reason.
    """

    gemms: list[Any] = field(default_factory=list)
    convolutions: list[Any] = field(default_factory=list)
    residuals: list[Any] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def nodes(self) -> list[Any]:
        """Layers with weights that are quantised."""
        return [*self.gemms, *self.convolutions]


def is_convolutional(graph: OnnxGraph) -> bool:
    """Whether a graph is a convolutional net; a transformer's patch embedding does not make one."""
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    return sum(_weight(graph, node) for node in convolutions) > 2


def select(graph: OnnxGraph) -> Selection:
    """Choose the layers of an FP32 graph to quantise."""
    chosen = Selection()
    weighed = [n for n in graph.graph.node if n.op_type in _WEIGHED and _weight(graph, n)]
    convolutional = is_convolutional(graph)
    for node in weighed:
        reason = _reason_to_keep(graph, node, convolutional)
        if reason:
            chosen.kept[node.name] = reason
        elif node.op_type == "Conv":
            chosen.convolutions.append(node)
        else:
            chosen.gemms.append(node)
    chosen.residuals = _residuals(graph, chosen.convolutions)
    return chosen


def _weight(graph: OnnxGraph, node: Any) -> bool:
    return node.input[1] in graph.constants and graph.is_float(node.input[1])


def _reason_to_keep(graph: OnnxGraph, node: Any, convolutional: bool) -> str | None:
    shape = graph.constants[node.input[1]].dims
    if node.op_type == "Conv":
        if not convolutional:
            return "the patch embedding is one layer and sees the pixels"
        return "the first convolution sees the pixels" if _sees_pixels(graph, node) else None
    if convolutional:
        return "the GEMMs of a convolutional net are its head"
    if len(shape) != 2 or min(shape) < _MIN_GEMM_SIDE:
        return f"a weight of shape {list(shape)} is too small to gain"
    if node.op_type == "Gemm" and not _plain(node):
        return "a scaled or transposed Gemm has no quantised form"
    if _is_last(graph, node):
        return "the last projection makes the embedding"
    return None


def _plain(gemm: Any) -> bool:
    values = {a.name: a.f if a.name in ("alpha", "beta") else a.i for a in gemm.attribute}
    return bool(
        values.get("alpha", 1.0) == values.get("beta", 1.0) == 1.0 and not values.get("transA", 0)
    )


def _sees_pixels(graph: OnnxGraph, node: Any) -> bool:
    """Whether no other convolution lies between the graph's input and this one.

    A product with a constant in front of a convolutional net is a fixed filter on pixels.
    """
    waiting, seen = [node.input[0]], set()
    while waiting:
        maker = graph.producer.get(waiting.pop())
        if maker is None or maker.name in seen:
            continue
        seen.add(maker.name)
        if maker.op_type == "Conv":
            return False
        waiting.extend(maker.input)
    return True


def _is_last(graph: OnnxGraph, node: Any) -> bool:
    """Whether no other weighed layer lies between this one and the graph's output."""
    waiting, seen = list(node.output), set()
    while waiting:
        for reader, _ in graph.readers.get(waiting.pop(), ()):
            if reader.op_type in _WEIGHED:
                return False
            if reader.name not in seen:
                seen.add(reader.name)
                waiting.extend(reader.output)
    return True


def _residuals(graph: OnnxGraph, convolutions: list[Any]) -> list[Any]:
    """Additions of two activations of which one at least is a chosen convolution's output."""
    made = {node.output[0] for node in convolutions}
    return [
        node
        for node in graph.graph.node
        if node.op_type == "Add"
        and made.intersection(node.input)
        and not any(name in graph.constants for name in node.input)
    ]
