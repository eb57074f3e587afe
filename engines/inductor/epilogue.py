"""Join what follows each other in memory: activations, residual sums and quantisations.

What follows a GEMM, an attention or a norm moves into it, and a residual sum into its norm.

Only where nobody else reads the value in between. The result says the same with fewer passes over
memory; a device without our kernels runs the parts one after the other.
"""

from __future__ import annotations

import torch

from engines.inductor.graph import Graph, Node

__all__ = ["HALF", "join_epilogues"]

HALF = (torch.float16, torch.bfloat16)
_QUICK_GELU = 1.702


def join_epilogues(graph: Graph) -> None:
    """Rewrite in place.

    `Linear` and `QuantisedLinear` gain the attribute `activation` ("gelu", "gelu_tanh" or
    "quick_gelu"); they and `Attention` gain `to`, the name of the scale that their output is
    quantised with, and `type`, its element type. QuantisedLinear's input becomes quantised: where
    no kernel makes it so, a `Quantise` node does. A sum of two equal shapes in half precision that
    is normed becomes AddNorm(x, y, weight, bias; epsilon) -> sum, norm; it can quantise the norm.
    """
    _name_quick_gelus(graph)
    _quantise_inputs(graph)
    _join_activations(graph)
    _join_norms(graph)
    _join_quantisations(graph)
    graph.prune()


def _name_quick_gelus(graph: Graph) -> None:
    """Name x * sigmoid(1.702 * x), as every exporter spells it, `QuickGelu`."""
    producers = graph.producers()
    for node in graph.nodes:
        if node.op != "Mul" or len(node.inputs) != 2:
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            sigmoid = producers.get(gate)
            inner = producers.get(sigmoid.inputs[0]) if sigmoid is not None else None
            if sigmoid is None or sigmoid.op != "Sigmoid" or inner is None or inner.op != "Mul":
                continue
            factors = [graph.constants[i] for i in inner.inputs if i in graph.constants]
            # In FP16 the constant is 1.7021484375.
            scalars = [float(f) for f in factors if f.numel() == 1]
            if x in inner.inputs and scalars and abs(scalars[0] - _QUICK_GELU) < 1e-3:
                node.op, node.inputs = "QuickGelu", [x]
                break
    graph.prune()


def _quantise_inputs(graph: Graph) -> None:
    made: dict[tuple[str, str], str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "QuantisedLinear":
            x, scale = node.inputs[0], node.inputs[3]
            kind = graph.constants[node.inputs[1]].dtype
            if (x, scale) not in made:
                made[x, scale] = f"{x}.quantised.{len(made)}"
                graph.shapes[made[x, scale]] = graph.shapes.get(x, ())
                attributes = {"to": scale, "type": kind}
                nodes.append(Node("Quantise", [x], [made[x, scale]], attributes))
            node.inputs[0] = made[x, scale]
        nodes.append(node)
    graph.nodes = nodes


def _join_activations(graph: Graph) -> None:
    producers, consumers = graph.producers(), graph.consumers()
    for node in graph.nodes:
        if node.op not in ("Gelu", "QuickGelu"):
            continue
        linear = producers.get(node.inputs[0])
        if linear is None or linear.op not in ("Linear", "QuantisedLinear"):
            continue
        if len(consumers[node.inputs[0]]) != 1:
            continue
        tanh = node.attributes.get("approximate") in (b"tanh", "tanh")
        name = "quick_gelu" if node.op == "QuickGelu" else "gelu_tanh" if tanh else "gelu"
        linear.attributes = {**linear.attributes, "activation": name}
        linear.outputs = list(node.outputs)
        node.op, node.outputs = "Identity", [f"{node.outputs[0]}.unused"]
    graph.prune()


def _join_norms(graph: Graph) -> None:
    producers = graph.producers()
    for norm in graph.nodes:
        if norm.op != "LayerNormalization" or len(norm.inputs) != 3 or len(norm.outputs) != 1:
            continue
        total = producers.get(norm.inputs[0])
        if total is None or total.op != "Add":
            continue
        shapes = {graph.shapes.get(name) for name in total.inputs}
        weight = graph.constants.get(norm.inputs[1])
        axis = norm.attributes.get("axis", -1)
        rank = len(graph.shapes.get(total.inputs[0], ()))
        if len(shapes) != 1 or weight is None or norm.inputs[2] not in graph.constants:
            continue
        if weight.dtype not in HALF or axis not in (-1, rank - 1):
            continue
        total.op = "AddNorm"
        total.inputs = [*total.inputs, *norm.inputs[1:]]
        total.outputs = [norm.inputs[0], norm.outputs[0]]
        total.attributes = {"epsilon": float(norm.attributes.get("epsilon", 1e-5))}
        norm.op, norm.outputs = "Identity", [f"{norm.outputs[0]}.unused"]
        norm.inputs = norm.inputs[:1]
    graph.prune()


def _join_quantisations(graph: Graph) -> None:
    producers, consumers = graph.producers(), graph.consumers()
    for node in graph.nodes:
        if node.op != "Quantise":
            continue
        source = producers.get(node.inputs[0])
        if source is None or source.outputs[-1] != node.inputs[0]:
            continue
        if len(consumers[node.inputs[0]]) != 1:
            continue
        if source.op in ("Linear", "QuantisedLinear", "Attention", "AddNorm"):
            source.attributes = {**source.attributes, **node.attributes}
            source.outputs[-1] = node.outputs[0]
            node.outputs = [f"{node.outputs[0]}.unused"]
    graph.prune()
