"""Program: a fused graph as a torch module, ready to be exported and compiled.

At each GEMM and attention the module chooses between the library and our kernels, by device and
shape; it computes what the graph says either way, on any device. It knows nothing of files.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # The field's name for it.

from engines.inductor import operators
from engines.inductor.epilogue import HALF
from engines.inductor.graph import Graph, Node

__all__ = ["Program"]

# With fewer rows our GEMM leaves processors idle, and the library splits the inner dimension.
_OWN_GEMM_ROWS = 2048
# Tensor maps take rows that are a multiple of this long.
_MAP_BYTES = 16


class Program(torch.nn.Module):
    """Runs a fused graph.

    Args:
        graph: From fusion.fused() and epilogue.join_epilogues().
        device: Where it will run.
        kernels: Whether to use our kernels; they need a CUDA device with tensor maps (SM 9.0+).
        exact_gelu: Take the erf form of GELU where the graph does, not the faster tanh form.
    """

    def __init__(
        self, graph: Graph, *, device: str, kernels: bool = False, exact_gelu: bool = False
    ) -> None:
        super().__init__()
        self._graph = graph
        self._kernels = kernels
        self._exact = exact_gelu
        self._keys: dict[str, str] = {}
        self._steering: dict[str, Any] = {}
        self._scales: dict[str, float] = {}
        for node in graph.nodes:
            if node.op == "QuantisedLinear":
                _widen_scale(graph, node)
        bounds = {i for node in graph.nodes if node.op == "Clip" for i in node.inputs[1:]}
        used = {name for node in graph.nodes for name in node.inputs}
        used |= {node.attributes["to"] for node in graph.nodes if "type" in node.attributes}
        for name in sorted(used & graph.constants.keys()):
            value = graph.constants[name]
            if value.dtype in (torch.int64, torch.int32) or name in bounds:
                # A tracer must see what steers an operator, so it is no tensor.
                # numpy has no bfloat16.
                exact = value.float() if value.dtype.is_floating_point else value
                self._steering[name] = exact.numpy()
                continue
            if value.numel() == 1 and value.dtype.is_floating_point:
                self._scales[name] = float(value)
            self._keys[name] = f"c{len(self._keys)}"
            self.register_buffer(self._keys[name], value.to(device))
        last_use: dict[str, int] = {}
        for i, node in enumerate(graph.nodes):
            last_use.update(dict.fromkeys(node.inputs, i))
        self._dead_after = [
            [n for n in dict.fromkeys(node.inputs) if last_use[n] == i]
            for i, node in enumerate(graph.nodes)
        ]

    @property
    def nodes(self) -> list[Node]:
        """What runs, in order."""
        return self._graph.nodes

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Embed: uint8 [B, S, S, 3] -> float32 [B, D]."""
        values: dict[str, torch.Tensor] = {self._graph.input: frames}
        for i, node in enumerate(self._graph.nodes):
            inputs = [self._value(name, values) for name in node.inputs]
            values.update(zip(node.outputs, self._run(node, inputs), strict=False))
            for name in self._dead_after[i]:
                values.pop(name, None)
        return values[self._graph.output]

    def _value(self, name: str, values: dict[str, torch.Tensor]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        if name in self._steering:
            return self._steering[name]
        return getattr(self, self._keys[name])

    def _run(self, node: Node, inputs: list[Any]) -> tuple[Any, ...]:
        at = node.attributes
        match node.op:
            case "Linear":
                return (self._linear(node, inputs[0], inputs[1], inputs[2]),)
            case "QuantisedLinear":
                return (self._quantised_linear(node, *inputs),)
            case "Quantise":
                return (_quantise(inputs[0], self._scales[at["to"]], at["type"]),)
            case "Attention":
                return (self._attention(node, inputs[0]),)
            case "AddNorm":
                return self._add_norm(node, *inputs)
            case "TokenAttention":
                return (_token_attention(inputs[0], inputs[1], at),)
            case "QuickGelu":
                return (_activate(inputs[0], "quick_gelu"),)
            case "Conv" if _is_patches(inputs, at):
                return (_embed_patches(*inputs),)
        return operators.apply(node.op, inputs, at)

    def _linear(self, node: Node, x: Any, weight: Any, bias: Any) -> Any:
        activation = node.attributes.get("activation", "")
        # The library's plain GEMM is the faster one; what follows it costs it a pass over memory.
        own = self._kernels and x.dtype in HALF and bias is not None
        own = own and bool(activation or "to" in node.attributes)
        rows = x.numel() // x.shape[-1]
        if own and rows >= _OWN_GEMM_ROWS and _mappable(x, weight):
            return self._own_gemm(node, x, weight, bias, bias, 1.0, x.dtype)
        y = _activate(F.linear(x, weight, bias), activation)
        return self._quantised_output(node, y)

    def _quantised_linear(
        self, node: Node, x: Any, weight: Any, bias: Any, x_scale: Any, weight_scale: Any
    ) -> Any:
        kind = x_scale.dtype
        if bias is None:
            bias = torch.zeros(len(weight), dtype=kind, device=x.device)
        if self._kernels and _mappable(x, weight):
            scale = self._scales[node.inputs[3]]
            return self._own_gemm(node, x, weight, bias, weight_scale, scale, kind)
        y = F.linear(x.to(torch.float32), weight.to(torch.float32))
        y = (y * (weight_scale * x_scale.to(torch.float32)) + bias.to(torch.float32)).to(kind)
        return self._quantised_output(node, _activate(y, node.attributes.get("activation", "")))

    def _own_gemm(
        self, node: Node, x: Any, weight: Any, bias: Any, scales: Any, scale: float, kind: Any
    ) -> Any:
        from engines.inductor.launch import gemm

        at = node.attributes
        activation = at.get("activation", "")
        if activation == "gelu_tanh":
            activation = "gelu"
        elif activation == "gelu" and self._exact:
            activation = "gelu_erf"
        flat = x.reshape(-1, x.shape[-1])
        out_scale = self._scales[at["to"]] if "to" in at else 1.0
        out = gemm(flat, weight, bias, scales, scale, activation, at.get("type", kind), out_scale)
        return out.reshape(*x.shape[:-1], len(weight))

    def _attention(self, node: Node, qkv: Any) -> Any:
        at = node.attributes
        batch, tokens, width = qkv.shape
        heads = at["heads"]
        head = width // 3 // heads
        if self._kernels and qkv.dtype in HALF and head in (32, 64, 128):
            from engines.inductor.launch import attention

            scale = self._scales[at["to"]] if "to" in at else 1.0
            return attention(qkv, heads, at["scale"], at.get("type", qkv.dtype), scale)
        q, k, v = qkv.view(batch, tokens, 3, heads, head).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=at["scale"])
        return self._quantised_output(node, mixed.transpose(1, 2).flatten(2))

    def _add_norm(self, node: Node, x: Any, y: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
        at = node.attributes
        if self._kernels:
            from engines.inductor.launch import add_norm

            scale = self._scales[at["to"]] if "to" in at else 1.0
            return add_norm(
                x.contiguous(),
                y.contiguous(),
                weight,
                bias,
                at["epsilon"],
                at.get("type", x.dtype),
                scale,
            )
        total = x + y
        normed = F.layer_norm(total, (total.shape[-1],), weight, bias, at["epsilon"])
        return total, self._quantised_output(node, normed)

    def _quantised_output(self, node: Node, y: Any) -> Any:
        at = node.attributes
        return _quantise(y, self._scales[at["to"]], at["type"]) if "to" in at else y


def _widen_scale(graph: Graph, node: Node) -> None:
    """One scale a row of the weight, whether the file has one or many."""
    rows = len(graph.constants[node.inputs[1]])
    scale = graph.constants[node.inputs[4]].reshape(-1).to(torch.float32)
    node.inputs[4] = f"{node.outputs[0]}.row_scale"
    graph.constants[node.inputs[4]] = scale.expand(rows).contiguous()


def _mappable(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether tensor maps can address the operands and the result."""
    return x.shape[-1] * x.element_size() % _MAP_BYTES == 0 and len(weight) % _MAP_BYTES == 0


def _activate(y: torch.Tensor, name: str) -> torch.Tensor:
    match name:
        case "gelu":
            return F.gelu(y)
        case "gelu_tanh":
            return F.gelu(y, approximate="tanh")
        case "quick_gelu":
            return y * torch.sigmoid(1.702 * y)
    return y


def _quantise(x: torch.Tensor, scale: float, kind: torch.dtype) -> torch.Tensor:
    y = x.to(torch.float32) * (1.0 / scale)
    if kind is torch.int8:
        return torch.round(y).clamp(-128, 127).to(kind)
    limit = torch.finfo(kind).max
    return y.clamp(-limit, limit).to(kind)


def _token_attention(q: torch.Tensor, kv: torch.Tensor, at: dict[str, Any]) -> torch.Tensor:
    batch, tokens, width = kv.shape
    heads = at["heads"]
    k, v = kv.view(batch, tokens, 2, heads, width // 2 // heads).permute(2, 0, 3, 1, 4)
    q = q.view(batch, heads, 1, width // 2 // heads)
    return F.scaled_dot_product_attention(q, k, v, scale=at["scale"]).reshape(batch, width // 2)


def _is_patches(inputs: list[Any], at: dict[str, Any]) -> bool:
    """Whether a convolution cuts its picture into patches that do not overlap."""
    weight = inputs[1]
    kernel = list(weight.shape[2:])
    plain = not any(at.get("pads", [0])) and at.get("group", 1) == 1
    plain = plain and set(at.get("dilations", [1])) == {1}
    whole = all(side % k == 0 for side, k in zip(inputs[0].shape[2:], kernel, strict=True))
    return plain and whole and list(at.get("strides", [])) == kernel and min(kernel) > 1


def _embed_patches(x: torch.Tensor, weight: torch.Tensor, bias: Any = None) -> torch.Tensor:
    """The convolution as one GEMM over patches, read in the order of a decoded picture."""
    batch, channels, height, width = x.shape
    n, _, ph, pw = weight.shape
    down, across = height // ph, width // pw
    patches = x.permute(0, 2, 3, 1).reshape(batch, down, ph, across, pw * channels)
    patches = patches.transpose(2, 3).reshape(batch, down * across, ph * pw * channels)
    flat = weight.permute(0, 2, 3, 1).reshape(n, ph * pw * channels)
    return F.linear(patches, flat, bias).transpose(1, 2).reshape(batch, n, down, across)
