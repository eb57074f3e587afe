"""Write Q and DQ into an FP32 graph: quantised weights, and quantised activations in front of them.

Three schemes, by who runs the graph:
- `int8`: symmetric INT8 with zero point 0 and FP biases, the form that strongly typed TensorRT
  takes. Only the inputs of layers and the shortcut branch of residual additions are quantised, so
  that a convolution and its addition fuse.
- `int8-cpu`: activations are UINT8 with a zero point, and biases of Conv and Gemm are INT32. ONNX
  Runtime fuses these only with their biases, and convolutions only when their outputs are quantised
  too; it folds a ReLU only into a zero point of 0. Nor is half of a ReLU's range thrown away.
- `fp8`: E4M3 with one scale a tensor.

Which layers and which ranges is said by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from engines.precision.onnx_graph import OnnxGraph
from engines.precision.selection import Selection
from reelsight.errors import EngineError

__all__ = ["Scheme", "activations", "leave_unscalable", "quantise", "split_gemms"]

Scheme = Literal["int8", "int8-cpu", "fp8"]
Floats = npt.NDArray[np.float32]

_FP8_LIMIT = 448.0
_INT32_BIAS_LIMIT = 2.0**30
_POOLS = frozenset({"AveragePool", "MaxPool"})


def split_gemms(graph: OnnxGraph, selection: Selection) -> None:
    """Turn the chosen Gemm nodes into MatMul and Add: the one form of a GEMM for TensorRT.

    ONNX Runtime would turn a MatMul and an Add of rank 2 back into a Gemm before it fuses anything.
    """
    chosen = {node.name for node in selection.gemms if node.op_type == "Gemm"}
    nodes = []
    make = graph.onnx.helper.make_node
    for node in graph.graph.node:
        if node.name not in chosen:
            nodes.append(node)
            continue
        weight, result = node.input[1], node.output[0]
        if any(a.name == "transB" and a.i for a in node.attribute):
            weight = graph.add_constant(f"{weight}.t", np.ascontiguousarray(graph.array(weight).T))
        biased = len(node.input) > 2 and node.input[2]
        product = graph.fresh(f"{result}.product") if biased else result
        graph.declare(product, graph.onnx.TensorProto.FLOAT)
        nodes.append(make("MatMul", [node.input[0], weight], [product], name=node.name))
        if biased:
            bias = make("Add", [product, node.input[2]], [result], name=f"{node.name}.bias")
            nodes.append(bias)
    graph.replace_nodes(nodes)
    named = {node.name: node for node in graph.graph.node}
    selection.gemms = [named[node.name] for node in selection.gemms]
    selection.convolutions = [named[node.name] for node in selection.convolutions]
    selection.residuals = [named[node.name] for node in selection.residuals]


def activations(graph: OnnxGraph, selection: Selection, scheme: Scheme) -> dict[str, set[str]]:
    """Tensors to quantise and the nodes that shall read their quantised form, by tensor."""
    found: dict[str, set[str]] = {}
    for node in selection.nodes:
        found.setdefault(node.input[0], set()).add(node.name)
    if scheme != "int8-cpu":
        for node in selection.residuals:
            found.setdefault(_shortcut(graph, selection, node), set()).add(node.name)
        return found
    trunk = {_after_relu(graph, node) for node in (*selection.convolutions, *selection.residuals)}
    trunk |= {name for node in selection.residuals for name in node.input}
    trunk |= {node.input[0] for node in selection.convolutions}
    for node in reversed(graph.graph.node):
        if node.op_type in _POOLS and node.output[0] in trunk:
            trunk.add(node.input[0])
    for name in trunk:
        found.setdefault(name, set()).update(n.name for n, _ in graph.readers.get(name, ()))
    return found


def leave_unscalable(
    graph: OnnxGraph,
    selection: Selection,
    ranges: Mapping[str, tuple[float, float]],
    scheme: Scheme,
    scale_dtype: type[np.floating[Any]],
) -> None:
    """Take out of a selection what needs a scale that the scales' type cannot hold.

    Args:
        graph: An FP32 graph.
        selection: Changed in place: such layers move to `kept`.
        ranges: Lowest and highest value to represent, by tensor.
        scheme: How it shall be quantised.
        scale_dtype: The type that scales will end in.
    """
    most = float(np.finfo(scale_dtype).max) * (_FP8_LIMIT if scheme == "fp8" else 127)
    heavy: dict[str, str] = {}
    for name, readers in activations(graph, selection, scheme).items():
        top = max(map(abs, ranges.get(name, (0.0,))))
        if not top <= most:
            heavy |= dict.fromkeys(readers, f"activation {name!r} reached {top:.3g}")
    for node in selection.nodes:
        top = float(np.abs(graph.array(node.input[1])).max(initial=0.0))
        if not top <= most:
            heavy[node.name] = f"a weight reaches {top:.3g}"
    for node in selection.nodes:
        if node.name in heavy:
            kind = np.dtype(scale_dtype).name
            selection.kept[node.name] = f"{heavy[node.name]}, no {kind} scale holds it"
    for chosen in (selection.gemms, selection.convolutions, selection.residuals):
        chosen[:] = [node for node in chosen if node.name not in heavy]


def quantise(
    graph: OnnxGraph,
    selection: Selection,
    ranges: Mapping[str, tuple[float, float]],
    scheme: Scheme,
    scale_dtype: type[np.floating[Any]],
) -> None:
    """Insert Q and DQ.

    Args:
        graph: An FP32 graph, changed in place; `split_gemms` has run.
        selection: What to quantise.
        ranges: Lowest and highest value to represent, by tensor.
        scheme: How.
        scale_dtype: The type that scales will end in; they are rounded to it before use, so that
            weights are divided by exactly what they are multiplied with later.

    Raises:
        EngineError: `engine.calibration_incomplete`: a tensor has no range.
    """
    _Inserter(graph, selection, ranges, scheme, scale_dtype).run()


def _shortcut(graph: OnnxGraph, selection: Selection, add: Any) -> str:
    """The input of an addition that did not come straight out of the block's last convolution."""
    made = {node.output[0] for node in selection.convolutions}
    first, second = add.input[0], add.input[1]
    return str(second if first in made else first)


def _output_axis(node: Any) -> int:
    """The axis of a layer's weights along which its outputs lie."""
    if node.op_type == "Conv":
        return 0
    return 0 if any(a.name == "transB" and a.i for a in node.attribute) else 1


def _after_relu(graph: OnnxGraph, node: Any) -> str:
    readers = graph.readers.get(node.output[0], [])
    if len(readers) == 1 and readers[0][0].op_type == "Relu":
        return str(readers[0][0].output[0])
    return str(node.output[0])


class _Inserter:
    def __init__(
        self,
        graph: OnnxGraph,
        selection: Selection,
        ranges: Mapping[str, tuple[float, float]],
        scheme: Scheme,
        scale_dtype: type[np.floating[Any]],
    ) -> None:
        self._graph, self._ranges, self._scheme = graph, ranges, scheme
        self._dtype = scale_dtype
        self._wanted = activations(graph, selection, scheme)
        self._layers = {node.name: node for node in selection.nodes}
        self._nodes: list[Any] = []
        # Per quantised tensor: the names of its quantised form, scale and zero point.
        self._quantised: dict[str, tuple[str, str, str]] = {}
        # Scale of what a layer reads, by the layer's name.
        self._input_scale: dict[str, float] = {}

    def run(self) -> None:
        missing = sorted(name for name in self._wanted if name not in self._ranges)
        if missing:
            raise EngineError(
                f"the calibration has no range for {len(missing)} tensors, first {missing[0]!r}",
                code="engine.calibration_incomplete",
                hint="Calibrate this master again with this version.",
            )
        for node in list(self._graph.graph.node):
            for place, name in enumerate(node.input):
                if name in self._wanted and node.name in self._wanted[name]:
                    node.input[place] = self._activation(name, node.name)
            if node.name in self._layers:
                self._weights(node)
            self._nodes.append(node)
        self._graph.replace_nodes(self._nodes)

    def _activation(self, name: str, reader: str) -> str:
        """Quantise a tensor once, and dequantise it for this reader alone: what fusers match."""
        if name not in self._quantised:
            scale, zero = self._range(name)
            scale_name = self._graph.add_constant(f"{name}.scale", np.asarray(scale, np.float32))
            zero_name = self._graph.add_constant(f"{name}.zero", zero)
            result = self._new(f"{name}.q", self._graph.constants[zero_name].data_type)
            self._emit("QuantizeLinear", [name, scale_name, zero_name], result)
            self._quantised[name] = (result, scale_name, zero_name)
        result, scale_name, zero_name = self._quantised[name]
        self._input_scale[reader] = float(self._graph.array(scale_name))
        back = self._new(f"{name}.dq.{reader}", self._graph.onnx.TensorProto.FLOAT)
        self._emit("DequantizeLinear", [result, scale_name, zero_name], back)
        return back

    def _range(self, name: str) -> tuple[np.float32, npt.NDArray[Any]]:
        low, high = self._ranges[name]
        low, high = min(low, 0.0), max(high, 0.0)
        top = max(-low, high)
        if self._scheme == "int8-cpu":
            scale = self._round((high - low) / 255)
            return scale, np.asarray(np.clip(np.rint(-low / scale), 0, 255), np.uint8)
        if self._scheme == "int8":
            return self._round(top / 127), np.asarray(0, np.int8)
        return self._round(top / _FP8_LIMIT), np.asarray(0, _fp8())

    def _round(self, wish: float) -> np.float32:
        """The next scale upwards that the final type holds; 1 for a tensor that is all zeros."""
        if wish <= 0:
            return np.float32(1.0)
        scale = self._dtype(wish)
        if float(scale) < wish:
            scale = np.nextafter(scale, self._dtype(np.inf))
        return np.float32(scale)

    def _weights(self, node: Any) -> None:
        weights: Floats = self._graph.array(node.input[1])
        axis = _output_axis(node)
        tops = np.abs(weights).max(axis=tuple(k for k in range(weights.ndim) if k != axis))
        if self._scheme == "fp8":
            scales = np.asarray(self._round(float(tops.max()) / _FP8_LIMIT))
            content = np.clip(weights / scales, -_FP8_LIMIT, _FP8_LIMIT).astype(_fp8())
            node.input[1] = self._dequantised(node.input[1], content, scales, axis)
            return
        biased = self._scheme == "int8-cpu" and len(node.input) > 2 and bool(node.input[2])
        if biased:
            tops = np.maximum(tops, self._least_tops(node))
        scales = np.asarray([self._round(top / 127) for top in tops.tolist()], np.float32)
        shape = [-1 if k == axis else 1 for k in range(weights.ndim)]
        content = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
        node.input[1] = self._dequantised(node.input[1], content, scales, axis)
        if biased:
            self._bias(node, scales)

    def _least_tops(self, node: Any) -> npt.NDArray[np.float64]:
        """What a channel's weights must at least span for its bias to fit 32 bits."""
        bias = np.abs(self._graph.array(node.input[2]).astype(np.float64))
        least: npt.NDArray[np.float64] = (
            bias * 127 / (self._input_scale[node.name] * _INT32_BIAS_LIMIT)
        )
        return least

    def _bias(self, node: Any, scales: Floats) -> None:
        joint = (scales * np.float32(self._input_scale[node.name])).astype(np.float32)
        bias = self._graph.array(node.input[2]).astype(np.float64)
        content = np.rint(bias / joint).astype(np.int32)
        node.input[2] = self._dequantised(node.input[2], content, joint, 0)

    def _dequantised(self, base: str, content: npt.NDArray[Any], scales: Floats, axis: int) -> str:
        stored = self._graph.add_constant(f"{base}.q", content)
        scale = self._graph.add_constant(f"{base}.scale", scales)
        zeros = np.zeros(scales.shape, content.dtype)
        zero = self._graph.add_constant(f"{base}.zero", zeros)
        back = self._new(f"{base}.dq", self._graph.onnx.TensorProto.FLOAT)
        attributes = {"axis": axis} if scales.ndim else {}
        self._emit("DequantizeLinear", [stored, scale, zero], back, **attributes)
        return back

    def _new(self, wish: str, elem_type: int) -> str:
        name = self._graph.fresh(wish)
        self._graph.declare(name, elem_type)
        return name

    def _emit(self, kind: str, inputs: list[str], result: str, **attributes: Any) -> None:
        make = self._graph.onnx.helper.make_node
        self._nodes.append(make(kind, inputs, [result], name=f"{result}.{kind}", **attributes))


def _fp8() -> Any:
    import ml_dtypes

    return ml_dtypes.float8_e4m3fn
