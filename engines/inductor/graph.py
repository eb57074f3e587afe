"""Graph: an ONNX graph with its batch bound, shapes known and what is constant folded.

A bound graph has no shape arithmetic left: every steering input is a constant. The module reads
ONNX and evaluates small constants; what is fast on a device is not its business.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engines.inductor import operators
from reelsight.errors import ModelError

__all__ = ["Graph", "Node", "bind", "read"]


# A quantised weight stays quantised: its DequantizeLinear is how a GEMM is known to be. A class
# token that is repeated for each picture of a batch stays one.
_KEPT = frozenset({"DequantizeLinear", "Expand"})


@dataclass(slots=True)
class Node:
    """One operator.

    Attributes:
        op: ONNX operator name, or one of `fusion`'s.
        inputs: Value names; "" for an absent optional input.
        outputs: Value names.
        attributes: By name.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Graph:
    """Nodes in topological order over named values.

    Attributes:
        nodes: The operators that are left to run.
        constants: Tensors by value name, on the CPU.
        shapes: Shape of every value.
        input, output: Names of the frames and of the embedding.
    """

    nodes: list[Node]
    constants: dict[str, torch.Tensor]
    shapes: dict[str, tuple[int, ...]]
    input: str
    output: str

    def producers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {name: node for node in self.nodes for name in node.outputs}

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that take each value."""
        found: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return found

    def prune(self) -> None:
        """Drop what the output does not need, and sort what is left topologically."""
        producers = self.producers()
        order: list[Node] = []
        done: set[int] = set()
        stack: list[tuple[Node, bool]] = [(producers[self.output], False)]
        while stack:
            node, expanded = stack.pop()
            if id(node) in done:
                continue
            if expanded:
                done.add(id(node))
                order.append(node)
                continue
            stack.append((node, True))
            stack += [(producers[name], False) for name in node.inputs if name in producers]
        self.nodes = order
        used = {name for node in order for name in node.inputs}
        self.constants = {k: v for k, v in self.constants.items() if k in used}


def read(path: Path) -> Any:
    """Read an ONNX file.

    Raises:
        ModelError: It cannot be read, or has more than one input and output.
    """
    import onnx

    try:
        proto = onnx.load(str(path))
    except Exception as error:  # Boundary: protobuf and onnx raise unrelated classes for bad bytes.
        raise ModelError(f"cannot read {path}: {error}", code="model.unreadable") from error
    if len(proto.graph.input) != 1 or len(proto.graph.output) != 1:
        raise ModelError(
            f"{path} has {len(proto.graph.input)} inputs and {len(proto.graph.output)} outputs, "
            "expected one of each",
            code="model.io_unsupported",
        )
    return proto


def bind(proto: Any, batch: int) -> Graph:
    """Fix the batch and fold.

    Args:
        proto: From read().
        batch: Frames in every run.

    Raises:
        ModelError: `model.operator_unsupported`: an operator or a use of it is not in the table.
    """
    import onnx

    frames = proto.graph.input[0]
    dims = [d.dim_value for d in frames.type.tensor_type.shape.dim]
    shape = (batch, *dims[1:])
    constants = {i.name: _tensor(i) for i in proto.graph.initializer}
    values: dict[str, torch.Tensor] = {
        frames.name: torch.empty(
            shape, dtype=operators.DTYPES[frames.type.tensor_type.elem_type], device="meta"
        )
    }
    kept: list[Node] = []
    for raw in proto.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in raw.attribute}
        node = Node(raw.op_type, list(raw.input), list(raw.output), attributes)
        if node.op == "Constant":
            constants[node.outputs[0]] = _tensor(attributes["value"])
            continue
        outputs, folded = _evaluate(node, constants, values)
        for name, value in zip(node.outputs, outputs, strict=False):
            (constants if folded else values)[name] = value
        if not folded:
            kept.append(node)
    shapes = {name: tuple(v.shape) for name, v in (*values.items(), *constants.items())}
    graph = Graph(kept, constants, shapes, frames.name, proto.graph.output[0].name)
    graph.prune()
    return graph


def _evaluate(
    node: Node, constants: dict[str, torch.Tensor], values: dict[str, torch.Tensor]
) -> tuple[tuple[torch.Tensor, ...], bool]:
    """The node's outputs, and whether they are constants."""
    named = [name for name in node.inputs if name]
    folds = all(name in constants for name in named) and node.op not in _KEPT
    if node.op == "Shape":
        source = constants.get(named[0], values.get(named[0]))
        return operators.apply("Shape", [source], node.attributes), True
    if folds:
        inputs = [constants[name] if name else None for name in node.inputs]
    else:
        inputs = [_abstract(name, node.op, constants, values) for name in node.inputs]
    try:
        return operators.apply(node.op, inputs, node.attributes), folds
    except (KeyError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise ModelError(
            f"operator {node.op} making {node.outputs[0]!r} cannot be compiled here: {error!r}",
            code="model.operator_unsupported",
            hint="Use the ONNX Runtime or TensorRT backend for this model.",
        ) from error


def _abstract(
    name: str, op: str, constants: dict[str, torch.Tensor], values: dict[str, torch.Tensor]
) -> torch.Tensor | None:
    """A value for shape inference: data where it steers an operator, shape alone elsewhere."""
    if not name:
        return None
    if name in values:
        return values[name]
    constant = constants[name]
    steering = constant.dtype in (torch.int64, torch.int32) or op == "Clip"
    return constant if steering else constant.to("meta")


def _tensor(proto: Any) -> torch.Tensor:
    import numpy as np
    from onnx import numpy_helper

    dtype = operators.DTYPES.get(proto.data_type)
    if dtype is None:
        raise ModelError(
            f"tensor {proto.name!r} has ONNX type {proto.data_type}",
            code="model.operator_unsupported",
        )
    array = np.array(numpy_helper.to_array(proto), copy=True)
    if dtype is torch.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if dtype is torch.float8_e4m3fn:
        return torch.from_numpy(array.view(np.uint8)).view(torch.float8_e4m3fn)
    return torch.from_numpy(array)
