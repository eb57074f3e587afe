"""Find in an image tower what a device has one kernel for.

Three rewrites, each exact up to rounding: a GEMM with its bias (and its Q/DQ, when the file carries
them) becomes `Linear`; the operators between three projections and the next one become
`Attention` over a packed [batch, tokens, 3 * width] value; and what the last block computes for
tokens that nobody reads is not computed. A rewrite is made where all that it relies on was read in
the graph: axes, shapes, types, zero points and the order of elements. What is not recognised runs
as it was written.

Rewrites are found on a graph bound to a batch of two and applied to any other by name: they
change names and nodes, never shapes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from engines.inductor.graph import Graph, Node, bind
from engines.inductor.layout import origin, rows_of, through
from engines.inductor.linears import join_linears

__all__ = ["FUSED", "fused"]

FUSED = frozenset({"Linear", "QuantisedLinear", "Attention", "TokenAttention"})
_BATCH = 2


def fused(proto: Any, batch: int) -> Graph:
    """An ONNX graph bound to a batch, rewritten.

    The operators that this adds, beside ONNX's:
        Linear and QuantisedLinear, as linears.join_linears says.
        Attention(qkv [B, T, 3 * D]; heads, scale) -> [B, T, D].
        TokenAttention(q [B, D], kv [B, T, 2 * D]; heads, scale) -> [B, D].

    Raises:
        ModelError: An operator is not supported.
    """
    pattern = bind(proto, _BATCH)
    join_linears(pattern)
    _join_attentions(pattern)
    _follow_one_token(pattern)
    graph = bind(proto, batch)
    folded = {**pattern.constants, **graph.constants}
    graph.nodes = pattern.nodes
    used = {name for node in graph.nodes for name in node.inputs}
    graph.constants = {name: value for name, value in folded.items() if name in used}
    return graph


# --- attention ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Projection:
    """Where queries, keys or values come from.

    Attributes:
        linear: The projection.
        source: What it projects, [batch, tokens, K].
        columns: int64 [heads, head]: its output columns, by head.
        tokens: Number of tokens.
        factor: Scalar that was multiplied in.
    """

    linear: Node
    source: str
    columns: torch.Tensor
    tokens: int
    factor: float


def _join_attentions(graph: Graph) -> None:
    for softmax in [n for n in graph.nodes if n.op == "Softmax"]:
        _join_attention(graph, softmax)
    graph.prune()


def _join_attention(graph: Graph, softmax: Node) -> None:
    producers, consumers = graph.producers(), graph.consumers()
    scores = origin(graph, _uncast(producers, softmax.inputs[0]), scalars=True)
    product = producers.get(scores.source)
    mixed = _only(consumers, _cast_away(consumers, softmax.outputs[0]), "MatMul")
    if product is None or product.op != "MatMul" or mixed is None:
        return
    # A row of scores stays a row, in its place, and is what the softmax is taken over.
    rows = scores.index.shape[-2:] == graph.shapes[scores.source][-2:]
    still = torch.equal(scores.index.reshape(-1), torch.arange(scores.index.numel()))
    axis = softmax.attributes.get("axis", -1)
    if not (rows and still) or axis not in (-1, scores.index.dim() - 1):
        return
    parts = [
        _projection(graph, product.inputs[0], transposed=False),
        _projection(graph, product.inputs[1], transposed=True),
        _projection(graph, mixed.inputs[1], transposed=False),
    ]
    if any(p is None for p in parts):
        return
    q, k, v = (p for p in parts if p is not None)
    if len({p.source for p in (q, k, v)}) != 1 or v.factor != 1.0:
        return
    if len({(p.tokens, p.columns.shape) for p in (q, k, v)}) != 1:
        return  # Queries that share keys and values, or read some tokens alone.
    made = {product.outputs[0]: q.tokens, mixed.outputs[0]: q.columns.shape[1]}
    if any(
        math.prod(graph.shapes[name]) != _BATCH * len(q.columns) * q.tokens * width
        for name, width in made.items()
    ):
        return  # One operand was broadcast over the other's heads.
    packed = _packed(graph, (q, k, v), mixed.outputs[0])
    rest = _output_projection(graph, mixed.outputs[0], q)
    if packed is None or rest is None:
        return
    heads, head = q.columns.shape
    width, out = heads * head, f"{mixed.outputs[0]}.tokens"
    graph.shapes[out] = (_BATCH, q.tokens, width)
    scale = q.factor * k.factor * scores.factor
    attention = Node("Attention", [packed], [out], {"heads": heads, "scale": scale})
    linear, output = rest
    old = producers[output]
    new = Node(linear.op, [out, *linear.inputs[1:]], [output], linear.attributes)
    graph.nodes = [n for n in graph.nodes if n is not old and output not in n.outputs]
    graph.nodes += [attention, new]


def _projection(graph: Graph, name: str, *, transposed: bool) -> _Projection | None:
    """What a [.., tokens, head] operand of attention is projected from; None if it is not plain."""
    found = origin(graph, name, scalars=True)
    linear = graph.producers().get(found.source)
    if linear is None or linear.op not in ("Linear", "QuantisedLinear"):
        return None
    index = found.index.transpose(-1, -2) if transposed else found.index
    tokens, head = index.shape[-2:]
    index = index.reshape(_BATCH, -1, tokens, head)
    width = graph.shapes[linear.outputs[0]][-1]
    into = origin(graph, linear.inputs[0])
    rows = rows_of(into.index, graph.shapes[linear.inputs[0]][-1])
    if rows is None or len(graph.shapes[into.source]) != 3:
        return None
    row = rows[index // width]
    expected = torch.arange(_BATCH * tokens).reshape(_BATCH, 1, tokens, 1)
    columns = index % width
    plain = torch.equal(row, expected.expand_as(row))
    if not plain or not torch.equal(columns, columns[:1, :, :1].expand_as(columns)):
        return None
    return _Projection(linear, into.source, columns[0, :, 0], tokens, found.factor)


def _packed(
    graph: Graph, parts: tuple[_Projection, _Projection, _Projection], stem: str
) -> str | None:
    """The name of the packed [B, T, 3 * D] projection; None when the parts cannot be packed."""
    name = f"{stem}.qkv"
    first = parts[0].linear
    alike = {
        (p.linear.op, bool(p.linear.inputs[2]), graph.constants[p.linear.inputs[1]].dtype)
        for p in parts
    }
    if len(alike) != 1:
        return None
    if first.op == "QuantisedLinear":
        scales = {float(graph.constants[p.linear.inputs[3]]) for p in parts}
        if len(scales) != 1:
            return None
    columns = [p.columns.reshape(-1) for p in parts]

    def gathered(position: int) -> torch.Tensor:
        values = [graph.constants[p.linear.inputs[position]] for p in parts]
        return torch.cat([v[c] for v, c in zip(values, columns, strict=True)])

    inputs = [parts[0].source, f"{name}.weight", ""]
    graph.constants[inputs[1]] = gathered(1)
    if first.inputs[2]:
        inputs[2] = f"{name}.bias"
        graph.constants[inputs[2]] = gathered(2)
    if first.op == "QuantisedLinear":
        inputs += [first.inputs[3], f"{name}.weight_scale"]
        graph.constants[inputs[4]] = gathered(4)
    width = len(graph.constants[inputs[1]])
    graph.shapes[name] = (_BATCH, parts[0].tokens, width)
    graph.nodes.append(Node(first.op, inputs, [name]))
    return name


def _output_projection(graph: Graph, mixed: str, q: _Projection) -> tuple[Node, str] | None:
    """The projection after attention and the [B, T, N] value that it finally makes."""
    heads, head = q.columns.shape
    consumers = graph.consumers()
    linear = _next_linear(graph, through(graph, mixed))
    if linear is None:
        return None
    into = origin(graph, linear.inputs[0])
    if into.source != mixed or into.index.numel() != _BATCH * q.tokens * heads * head:
        return None
    # Renumber from [batch, heads, tokens, head] to [batch, tokens, heads * head].
    order = torch.arange(into.index.numel()).reshape(_BATCH, q.tokens, heads, head)
    renumbered = torch.empty(into.index.numel(), dtype=torch.int64)
    standard = order.permute(0, 2, 1, 3).reshape(-1)
    renumbered[:] = standard
    rows = rows_of(renumbered[into.index.reshape(-1)].reshape(into.index.shape), heads * head)
    output = through(graph, linear.outputs[0])
    width = graph.shapes[linear.outputs[0]][-1]
    after = rows_of(origin(graph, output).index, width)
    if rows is None or after is None or not consumers.get(output, []):
        return None
    if graph.shapes[output] != (_BATCH, q.tokens, width):
        return None
    plain = torch.equal(rows[after], torch.arange(_BATCH * q.tokens))
    return (linear, output) if plain else None


def _next_linear(graph: Graph, name: str) -> Node | None:
    after = graph.consumers().get(name, [])
    if len(after) == 1 and after[0].op in ("Linear", "QuantisedLinear"):
        return after[0]
    return None


def _only(consumers: dict[str, list[Node]], name: str, op: str) -> Node | None:
    after = consumers.get(name, [])
    return after[0] if len(after) == 1 and after[0].op == op else None


def _uncast(producers: dict[str, Node], name: str) -> str:
    while name in producers and producers[name].op == "Cast":
        name = producers[name].inputs[0]
    return name


def _cast_away(consumers: dict[str, list[Node]], name: str) -> str:
    cast = _only(consumers, name, "Cast")
    return name if cast is None else cast.outputs[0]


# --- the last block ----------------------------------------------------------------------------

_ROWWISE = frozenset({"Add", "Cast", "Gelu", "LayerNormalization", "Mul", "Sigmoid"})


def _follow_one_token(graph: Graph) -> None:
    """Where one token of [B, T, D] is read, compute the last block for that token alone."""
    producers = graph.producers()
    attentions = [n for n in graph.nodes if n.op == "Attention"]
    reads = [n for n in graph.nodes if n.op == "Gather" and _reads_token(graph, n)]
    if not attentions or len(reads) != 1:
        return
    last = attentions[-1]
    projection = producers[last.inputs[0]]
    whole = _ancestors(producers, projection.inputs[0]) | {projection.inputs[0]}
    token = reads[0].inputs[1]
    made: dict[str, str] = {}
    added: list[Node] = []

    def selected(name: str) -> str:
        if name in graph.constants or not name:
            return name
        if name not in made:
            made[name] = f"{name}.token"
            node = producers[name]
            graph.shapes[made[name]] = (_BATCH, *graph.shapes[name][2:])
            if name in whole or (node is not last and not _rowwise(graph, node)):
                added.append(Node("Gather", [name, token], [made[name]], {"axis": 1}))
            elif node is last:
                added.extend(_token_attention(graph, node, projection, selected, made[name]))
            else:
                inputs = [selected(i) for i in node.inputs]
                added.append(Node(node.op, inputs, [made[name]], node.attributes))
        return made[name]

    source = selected(reads[0].inputs[0])
    graph.nodes = [n for n in graph.nodes if n is not reads[0]] + added
    for node in graph.nodes:
        node.inputs = [source if i == reads[0].outputs[0] else i for i in node.inputs]
    graph.prune()


def _rowwise(graph: Graph, node: Node) -> bool:
    """Whether a token's output depends on that token's inputs alone, by the same rule for all."""
    if node.op in ("Linear", "QuantisedLinear"):
        return True
    if node.op == "LayerNormalization" and node.attributes.get("axis", -1) != -1:
        return False  # The axis is another one when the tokens are gone.
    constants = [graph.constants[i] for i in node.inputs if i in graph.constants]
    values = [graph.shapes[i] for i in node.inputs if i and i not in graph.constants]
    same = all(shape == values[0] for shape in values)
    return node.op in _ROWWISE and same and all(value.dim() < 2 for value in constants)


def _reads_token(graph: Graph, node: Node) -> bool:
    index = graph.constants.get(node.inputs[1])
    shape = graph.shapes[node.inputs[0]]
    scalar = index is not None and index.dim() == 0
    return scalar and node.attributes.get("axis", 0) == 1 and len(shape) == 3


def _ancestors(producers: dict[str, Node], name: str) -> set[str]:
    found: set[str] = set()
    stack = [name]
    while stack:
        node = producers.get(stack.pop())
        fresh = [i for i in node.inputs if i and i not in found] if node is not None else []
        found.update(fresh)
        stack += fresh
    return found


def _token_attention(
    graph: Graph, attention: Node, projection: Node, selected: Any, output: str
) -> list[Node]:
    """The queries of one token against the keys and values of all."""
    weight = graph.constants[projection.inputs[1]]
    width = weight.shape[0] // 3
    stem = projection.outputs[0]
    parts = {"q": slice(0, width), "kv": slice(width, None)}
    nodes: list[Node] = []
    for part, rows in parts.items():
        inputs = [projection.inputs[0]]
        for name in projection.inputs[1:]:
            value = graph.constants.get(name)
            if value is None or value.dim() == 0 or len(value) != 3 * width:
                inputs.append(name)
                continue
            graph.constants[f"{name}.{part}"] = value[rows].contiguous()
            inputs.append(f"{name}.{part}")
        if part == "q":
            inputs[0] = selected(inputs[0])
        nodes.append(Node(projection.op, inputs, [f"{stem}.{part}"]))
    both = [f"{stem}.q", f"{stem}.kv"]
    return [*nodes, Node("TokenAttention", both, [output], attention.attributes)]
