"""Lower the floating-point type of a graph: weights, activations and the casts at the borders.

Every operator's inputs end in one type, as strongly typed TensorRT demands; which inputs may change
is read from ONNX's own operator schemas. What stays in FP32 is said by the caller, and added to by
what the lower type cannot hold. Quantisation is not known here: Q and DQ are operators like others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.precision.onnx_graph import OnnxGraph
from engines.precision.selection import is_convolutional

__all__ = [
    "cast_pixels_first",
    "final_norm",
    "lower_floats",
    "norms",
    "out_of_range",
    "pixel_arithmetic",
]

_FP16_LIMIT = 65504.0
# Frames that calibration did not see reach further than those it saw.
_HEADROOM = 0.5
_NORM_OPS = frozenset({"LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax"})
_PIXEL_OPS = frozenset({"Cast", "Mul", "Add", "Sub", "Div", "Transpose"})
_FILTER_OPS = frozenset({"AveragePool", "Clip", "MatMul", "Slice"})
# Operators that read no values: a cast in front of them would be for nothing.
_SHAPES = frozenset({"Shape", "Size"})
# What a final division by the L2 norm is made of.
_L2_OPS = frozenset(
    {"Div", "Mul", "Expand", "Clip", "Max", "Sqrt", "Reciprocal", "Pow", "LpNormalization"}
    | {"ReduceL2", "ReduceSum", "ReduceSumSquare"}
)


def final_norm(graph: OnnxGraph) -> dict[str, str]:
    """Nodes of the L2 norm that ends the graph, and the node that makes its output, with why."""
    last = graph.producer[graph.output]
    found, waiting = {last.name: "makes the FP32 output"}, [last]
    while waiting:
        node = waiting.pop()
        if node.op_type not in _L2_OPS:
            continue
        found[node.name] = "the final L2 norm is computed in FP32"
        for name in node.input:
            maker = graph.producer.get(name)
            if maker is not None and maker.op_type in _L2_OPS and graph.is_float(name):
                waiting.append(maker)
    return found


def norms(graph: OnnxGraph) -> dict[str, str]:
    """LayerNormalization and softmax nodes, with why they stay in FP32."""
    return {n.name: "norms stay in FP32" for n in graph.graph.node if n.op_type in _NORM_OPS}


def pixel_arithmetic(graph: OnnxGraph) -> dict[str, str]:
    """What turns 0..255 pixels into normalised ones: from the graph's input to the first layer.

    In front of a convolutional net that may be a filter: a mark is a few levels of 255, and half
    precision would round it away before the filter has brought it out.
    """
    allowed = _PIXEL_OPS | (_FILTER_OPS if is_convolutional(graph) else set())
    found: dict[str, str] = {}
    reached = {value.name for value in graph.graph.input}
    for node in graph.graph.node:
        constant = all(name in reached or name in graph.constants for name in node.input)
        if not constant or not reached.intersection(node.input):
            continue
        if node.op_type in allowed:
            reached.update(node.output)
            if any(graph.is_float(name) for name in node.output):
                found[node.name] = "pixels are normalised in FP32"
    return found


def cast_pixels_first(graph: OnnxGraph) -> bool:
    """Turn pixels into FP32 before anything else touches them; says whether anything changed.

    TensorRT takes a uint8 input and refuses every operator on it but a cast.
    """
    proto = graph.onnx.TensorProto
    pixels = graph.graph.input[0].name
    first = [node for node, _ in graph.readers.get(pixels, ())]
    if all(node.op_type == "Cast" for node in first):
        return False
    cast = graph.fresh(f"{pixels}.fp32")
    graph.declare(cast, proto.FLOAT)
    make = graph.onnx.helper.make_node
    nodes = [make("Cast", [pixels], [cast], name=f"{cast}.cast", to=proto.FLOAT)]
    # What was uint8 and is FP32 now, and what stands for a cast that has nothing left to do.
    moved, becomes = {cast}, {pixels: cast}
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = becomes.get(name, name)
        to_float = any(a.name == "to" and a.i == proto.FLOAT for a in node.attribute)
        if node.op_type == "Cast" and to_float and node.input[0] in moved:
            becomes[node.output[0]] = node.input[0]
            continue
        if node.op_type in ("Slice", "Transpose") and node.input[0] in moved:
            moved.add(node.output[0])
            graph.declare(node.output[0], proto.FLOAT)
        nodes.append(node)
    graph.replace_nodes(nodes)
    return True


def out_of_range(graph: OnnxGraph, ranges: Mapping[str, float]) -> dict[str, str]:
    """Nodes that FP16 would overflow, or whose constants it would turn into zeros.

    Args:
        graph: An FP32 graph.
        ranges: Largest magnitude that calibration saw, by tensor; empty without a calibration.
    """
    found: dict[str, str] = {}
    for name in graph.constants:
        if not graph.is_float(name):
            continue
        content = np.abs(graph.array(name))
        top = float(content.max(initial=0.0))
        if top > _FP16_LIMIT:
            reason = f"constant {name!r} reaches {top:.3g}, FP16 ends at 65504"
        elif top > 0 and not content.astype(np.float16).any():
            reason = f"constant {name!r} is {top:.3g} at most, which FP16 rounds to 0"
        else:
            continue
        found |= {node.name: reason for node, _ in graph.readers.get(name, ())}
    for name, top in ranges.items():
        # Written so that NaN and infinity count as too large.
        if not top <= _FP16_LIMIT * _HEADROOM and graph.is_float(name):
            reason = f"activation {name!r} reached {top:.3g}, FP16 ends at 65504"
            near = [node for node, _ in graph.readers.get(name, ())]
            near += [graph.producer[name]] if name in graph.producer else []
            found |= {node.name: reason for node in near}
    return found


def lower_floats(graph: OnnxGraph, dtype: str, kept: Mapping[str, str]) -> dict[str, str]:
    """Turn every FP32 node that is not kept into the lower type.

    Args:
        graph: Changed in place.
        dtype: `fp16` or `bf16`.
        kept: Nodes that stay in FP32, with the reason.

    Returns:
        `kept` and what was added because ONNX defines the operator for FP32 alone.
    """
    return _Lowering(graph, dtype, kept).run()


class _Lowering:
    def __init__(self, graph: OnnxGraph, dtype: str, kept: Mapping[str, str]) -> None:
        self._graph = graph
        self._kept = dict(kept)
        proto = graph.onnx.TensorProto
        self._suffix = dtype
        self._low = proto.FLOAT16 if dtype == "fp16" else proto.BFLOAT16
        self._word = "tensor(float16)" if dtype == "fp16" else "tensor(bfloat16)"
        self._nodes: list[Any] = []
        # Tensors that are in the lower type now, and copies of tensors in the other type.
        self._lowered: set[str] = set()
        self._copies: dict[tuple[str, bool], str] = {}

    def run(self) -> dict[str, str]:
        for node in list(self._graph.graph.node):
            if node.op_type in _SHAPES:
                self._nodes.append(node)
                continue
            inputs, outputs = self._formals(node)
            low = node.name not in self._kept
            if low and inputs and not any(inputs.values()):
                self._kept[node.name] = f"ONNX defines {node.op_type} in FP32 alone"
                low = False
            for place, name in enumerate(node.input):
                if name and self._graph.is_float(name):
                    node.input[place] = self._as(name, low and inputs.get(place, False))
            if low:
                self._lower_attributes(node)
                self._lowered.update(n for k, n in enumerate(node.output) if outputs.get(k))
            self._nodes.append(node)
        self._graph.replace_nodes(self._nodes)
        return self._kept

    def _formals(self, node: Any) -> tuple[dict[int, bool], dict[int, bool]]:
        """Of each FP32 input and output: whether the schema allows the lower type there."""
        defs = self._graph.onnx.defs
        floats = [k for k, n in enumerate(node.input) if n and self._graph.is_float(n)]
        results = [k for k, n in enumerate(node.output) if n and self._graph.is_float(n)]
        if node.domain not in ("", "ai.onnx"):
            return dict.fromkeys(floats, False), dict.fromkeys(results, False)
        schema = defs.get_schema(node.op_type, self._graph.opset, "")
        allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}

        def fits(formals: Any, place: int) -> bool:
            # The last formal of a variadic operator stands for all that follow.
            formal = formals[min(place, len(formals) - 1)]
            return self._word in allowed.get(formal.type_str, ())

        return (
            {place: fits(schema.inputs, place) for place in floats},
            {place: fits(schema.outputs, place) for place in results},
        )

    def _as(self, name: str, low: bool) -> str:
        """The tensor's name in the wanted type, cast once for all its readers."""
        if (name in self._lowered) == low:
            return name
        key = (name, low)
        if key not in self._copies:
            constant = name in self._graph.constants
            self._copies[key] = self._constant(name) if constant else self._cast(name, low)
        return self._copies[key]

    def _cast(self, name: str, low: bool) -> str:
        copy = self._graph.fresh(f"{name}.{self._suffix if low else 'fp32'}")
        target = self._low if low else self._graph.onnx.TensorProto.FLOAT
        make = self._graph.onnx.helper.make_node
        self._nodes.append(make("Cast", [name], [copy], name=f"{copy}.cast", to=target))
        return copy

    def _constant(self, name: str) -> str:
        return self._graph.add_constant(
            f"{name}.{self._suffix}", self._cast_array(self._graph.array(name))
        )

    def _cast_array(self, content: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self._suffix == "fp16":
            return content.astype(np.float16)
        import ml_dtypes

        return content.astype(ml_dtypes.bfloat16)

    def _lower_attributes(self, node: Any) -> None:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == self._graph.onnx.TensorProto.FLOAT:
                attribute.i = self._low
            elif attribute.name == "value" and attribute.t.data_type == 1:
                content = self._graph.onnx.numpy_helper.to_array(attribute.t)
                attribute.t.CopyFrom(
                    self._graph.onnx.numpy_helper.from_array(self._cast_array(content))
                )
