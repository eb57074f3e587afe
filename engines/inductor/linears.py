"""Find the GEMMs of an image tower, and those that its file quantises.

A GEMM is taken only where all that its kernel relies on was read in the graph: a constant weight of
two dimensions, a bias for each of its rows, one scale there and back for the input, one scale or
one a row for the weight, and no zero points. It knows no attention and no device.
"""

from __future__ import annotations

import torch

from engines.inductor.graph import Graph, Node

__all__ = ["join_linears"]

_QUANTISED = (torch.int8, torch.float8_e4m3fn)


def join_linears(graph: Graph) -> None:
    """Rewrite in place: a GEMM by a constant, with its bias and its Q/DQ, becomes one node.

    The nodes that this adds, beside ONNX's:
        Linear(x [..., K], weight [N, K], bias [N] or ""): x @ weight.T + bias.
        QuantisedLinear(x, weight [N, K], bias [N] or "", x_scale, weight_scale [N]): the weight is
            int8 or float8_e4m3 and x is rounded to the same type, both symmetrically.
    """
    consumers = graph.consumers()
    producers = graph.producers()
    for node in list(graph.nodes):
        found = _weight(graph, producers, node)
        if found is None:
            continue
        weight, weight_scale = found
        bias, output, joined = "", node.outputs[0], [node]
        if node.op == "Gemm" and len(node.inputs) > 2:
            bias = node.inputs[2]
        if bias and not _is_vector(graph, bias, len(weight)):
            continue
        after = consumers.get(output, [])
        if not bias and len(after) == 1 and after[0].op == "Add" and output != graph.output:
            other = [i for i in after[0].inputs if i != output]
            if other and _is_vector(graph, other[0], len(weight)):
                bias, output = other[0], after[0].outputs[0]
                joined.append(after[0])
        name = f"{output}.weight"
        graph.constants[name] = weight
        graph.shapes[name] = tuple(weight.shape)
        if weight_scale is None:
            linear = Node("Linear", [node.inputs[0], name, bias], [output])
        else:
            x, x_scale = _quantised_input(producers, node.inputs[0])
            graph.constants[f"{output}.weight_scale"] = weight_scale
            inputs = [x, name, bias, x_scale, f"{output}.weight_scale"]
            linear = Node("QuantisedLinear", inputs, [output])
        graph.nodes[graph.nodes.index(node)] = linear
        for extra in joined[1:]:
            graph.nodes.remove(extra)
    graph.prune()


def _is_vector(graph: Graph, name: str, width: int) -> bool:
    value = graph.constants.get(name)
    return value is not None and value.shape == (width,)


def _weight(
    graph: Graph, producers: dict[str, Node], node: Node
) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """The [N, K] weight of a GEMM by a constant, and its [N] scale if both sides are quantised."""
    if node.op not in ("MatMul", "Gemm"):
        return None
    at = node.attributes
    if at.get("alpha", 1.0) != 1.0 or at.get("beta", 1.0) != 1.0 or at.get("transA", 0):
        return None
    name, scale = node.inputs[1], None
    rows = 0 if at.get("transB", 0) else 1
    source = producers.get(name)
    if source is not None and source.op == "DequantizeLinear":
        name = source.inputs[0]
        scale = _row_scale(graph, source, rows)
        kind = _input_type(graph, producers, node)
        if scale is None or kind is None or graph.constants[name].dtype != kind:
            return None
    weight = graph.constants.get(name)
    if weight is None or weight.dim() != 2 or not (scale is not None or weight.is_floating_point()):
        return None
    return (weight.t() if rows else weight).contiguous(), scale


def _row_scale(graph: Graph, dequantise: Node, axis: int) -> torch.Tensor | None:
    """The scale of each of the N rows of a weight whose N is at `axis`; None for other schemes."""
    weight, scale = (graph.constants.get(name) for name in dequantise.inputs[:2])
    if weight is None or scale is None or weight.dim() != 2 or not _centred(graph, dequantise):
        return None
    if dequantise.attributes.get("block_size", 0):
        return None
    n = weight.shape[axis]
    along = dequantise.attributes.get("axis", 1) % 2
    if scale.numel() != 1 and (scale.shape != (n,) or along != axis):
        return None
    return scale.reshape(-1).float().expand(n).contiguous()


def _centred(graph: Graph, node: Node) -> bool:
    """Whether a Q or DQ has no zero point, or a constant one that is nothing but zeros."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return True
    zero = graph.constants.get(node.inputs[2])
    return zero is not None and not zero.float().any()


def _input_type(graph: Graph, producers: dict[str, Node], node: Node) -> torch.dtype | None:
    """What the left operand is quantised to, if it is: symmetrically, one scale there and back."""
    dequantise = producers.get(node.inputs[0])
    if dequantise is None or dequantise.op != "DequantizeLinear":
        return None
    quantise = producers.get(dequantise.inputs[0])
    if quantise is None or quantise.op != "QuantizeLinear" or len(quantise.inputs) < 3:
        return None
    there, back = (graph.constants.get(n.inputs[1]) for n in (quantise, dequantise))
    zero = graph.constants.get(quantise.inputs[2])
    if there is None or back is None or zero is None or zero.dtype not in _QUANTISED:
        return None
    one_scale = there.numel() == 1 and back.numel() == 1 and there.dtype == back.dtype
    if not one_scale or float(there) != float(back) or not quantise.attributes.get("saturate", 1):
        return None
    return zero.dtype if _centred(graph, quantise) and _centred(graph, dequantise) else None


def _quantised_input(producers: dict[str, Node], name: str) -> tuple[str, str]:
    """What is quantised, and the name of its scale."""
    quantise = producers[producers[name].inputs[0]]
    return quantise.inputs[0], quantise.inputs[1]
