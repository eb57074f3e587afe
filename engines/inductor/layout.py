"""Where each element of a value comes from, through operators that only move elements.

Exporters write the same attention in a dozen ways: packed or not, sequence first or batch first,
reshaped to three dimensions or four. Instead of matching spellings, a chain of layout operators is
run on element numbers; equal numbers mean equal meaning. This module moves numbers and knows no
model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engines.inductor import operators
from engines.inductor.graph import Graph, Node

__all__ = ["Origin", "origin", "rows_of", "through"]

_LAYOUT = frozenset(
    ("Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose")
) | {"Unsqueeze"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    Attributes:
        source: Name of the value that the chain starts at.
        index: int64, shaped as the value: the flat position in the source of each element.
        factor: Product of the constant scalars that were multiplied on the way.
    """

    source: str
    index: torch.Tensor
    factor: float


def origin(graph: Graph, name: str, *, scalars: bool = False) -> Origin:
    """Walk back through layout operators.

    Args:
        graph: Where the value is.
        name: The value.
        scalars: Also walk through multiplication by a constant scalar.
    """
    producers = graph.producers()
    path: list[tuple[Node, str]] = []
    factor = 1.0
    while name in producers:
        node = producers[name]
        scalar = _scalar(graph, node) if scalars else None
        if node.op not in _LAYOUT and scalar is None:
            break
        path.append((node, name))
        if scalar is not None:
            factor *= scalar
            name = next(i for i in node.inputs if i not in graph.constants)
        else:
            name = node.inputs[0]
    shape = graph.shapes[name]
    index = torch.arange(int(torch.tensor(shape).prod())).reshape(shape)
    for node, output in reversed(path):
        if node.op in _LAYOUT:
            index = _moved(graph, node, output, index)
    return Origin(name, index, factor)


def rows_of(index: torch.Tensor, width: int) -> torch.Tensor | None:
    """Row numbers in a [rows, width] source, if the index moves whole rows; None if it does not."""
    flat = index.reshape(-1, width) if index.numel() % width == 0 else None
    if flat is None or index.shape[-1] != width:
        return None
    rows = flat[:, 0] // width
    whole = torch.equal(flat, rows[:, None] * width + torch.arange(width))
    return rows if whole else None


def through(graph: Graph, name: str) -> str:
    """The value that a chain of layout operators, each the only consumer, makes of this one."""
    consumers = graph.consumers()
    while name != graph.output:
        after = consumers.get(name, [])
        if len(after) != 1 or after[0].op not in _LAYOUT or after[0].op == "Split":
            return name
        name = after[0].outputs[0]
    return name


def _scalar(graph: Graph, node: Node) -> float | None:
    if node.op not in ("Mul", "Div"):
        return None
    constants = [graph.constants[i] for i in node.inputs if i in graph.constants]
    if len(constants) != 1 or constants[0].numel() != 1:
        return None
    value = float(constants[0])
    if node.op == "Div":
        return None if node.inputs[0] in graph.constants else 1.0 / value
    return value


def _moved(graph: Graph, node: Node, output: str, index: torch.Tensor) -> torch.Tensor:
    steering = [graph.constants[i] if i else None for i in node.inputs[1:]]
    outputs = operators.apply(node.op, [index, *steering], node.attributes)
    moved: torch.Tensor = outputs[node.outputs.index(output)]
    return moved
