"""ONNX operators as torch calls, for the operators that image towers are made of.

Each entry takes the operator's inputs as tensors (None where an optional one is absent) and its
attributes, and returns one tensor or a tuple. Inputs that steer an operator (shapes, axes, indices,
bounds) are constants by the time it runs: CPU tensors or numpy arrays, which a tracer takes for
what they are. The module knows operators, not graphs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # The field's name for it.

__all__ = ["OPERATORS", "apply"]

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]

# TensorProto.DataType -> torch.
DTYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
}


def apply(op: str, inputs: list[Any], attributes: Attributes) -> tuple[Any, ...]:
    """Run one operator.

    Raises:
        KeyError: The operator is not in the table.
        ValueError: An attribute asks for what the table does not do.
    """
    result = OPERATORS[op](attributes, *inputs)
    return result if isinstance(result, tuple) else (result,)


def ints(value: Any) -> list[int]:
    """A steering input as Python integers."""
    return [int(v) for v in value.reshape(-1).tolist()]


def _reshape(at: Attributes, x: Any, shape: Any) -> Any:
    wanted = ints(shape)
    if not at.get("allowzero", 0):
        wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted)


def _transpose(at: Attributes, x: Any) -> Any:
    return x.permute(list(at.get("perm", range(x.dim())[::-1])))


def _squeeze(at: Attributes, x: Any, axes: Any = None) -> Any:
    return x.squeeze() if axes is None else x.squeeze(tuple(ints(axes)))


def _unsqueeze(at: Attributes, x: Any, axes: Any) -> Any:
    places = ints(axes)
    rank = x.dim() + len(places)
    for axis in sorted(a % rank for a in places):
        x = x.unsqueeze(axis)
    return x


def _flatten(at: Attributes, x: Any) -> Any:
    axis = at.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _gather(at: Attributes, x: Any, index: Any) -> Any:
    axis = at.get("axis", 0) % x.dim()
    size = x.shape[axis]
    wanted = ints(index)
    if any(not -size <= i < size for i in wanted):
        raise ValueError(f"a Gather of {wanted} out of {size}")
    if not tuple(index.shape):
        return x.select(axis, wanted[0])
    where = torch.tensor([i % size for i in wanted], dtype=torch.int64, device=x.device)
    rows = x.index_select(axis, where)
    return rows.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _slice(
    at: Attributes, x: Any, starts: Any, ends: Any, axes: Any = None, steps: Any = None
) -> Any:
    begin, end = ints(starts), ints(ends)
    along = list(range(len(begin))) if axes is None else ints(axes)
    step = [1] * len(begin) if steps is None else ints(steps)
    for axis, a, b, s in zip(along, begin, end, step, strict=True):
        if s < 1:
            raise ValueError(f"a Slice of step {s}")
        size = x.shape[axis]
        first, last = (max(0, min(size, v + size if v < 0 else v)) for v in (a, b))
        index = [slice(None)] * x.dim()
        index[axis] = slice(first, last, s)
        x = x[tuple(index)]
    return x


def _split(at: Attributes, x: Any, sizes: Any = None) -> Any:
    axis = at.get("axis", 0)
    if sizes is not None:
        return tuple(x.split(ints(sizes), axis))
    return tuple(x.split(math.ceil(x.shape[axis] / at["num_outputs"]), axis))


def _conv(at: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    if at.get("auto_pad", b"NOTSET") not in (b"NOTSET", "NOTSET"):
        raise ValueError(f"a Conv with auto_pad {at['auto_pad']!r}")
    rank = x.dim() - 2
    pads = list(at.get("pads", [0] * 2 * rank))
    if pads[:rank] != pads[rank:]:
        x, pads = F.pad(x, _torch_pads(pads, rank)), [0] * 2 * rank
    return F.conv2d(
        x,
        weight,
        bias,
        stride=list(at.get("strides", [1] * rank)),
        padding=pads[:rank],
        dilation=list(at.get("dilations", [1] * rank)),
        groups=at.get("group", 1),
    )


def _torch_pads(pads: list[int], rank: int) -> list[int]:
    """ONNX begins-then-ends to torch's last-axis-first pairs."""
    return [pads[i + end * rank] for i in reversed(range(rank)) for end in (0, 1)]


def _average_pool(at: Attributes, x: Any) -> Any:
    if set(at.get("dilations", [1])) != {1}:
        raise ValueError(f"an AveragePool with dilations {at['dilations']}")
    return F.avg_pool2d(
        x,
        list(at["kernel_shape"]),
        stride=list(at.get("strides", [1, 1])),
        padding=_even_pads(at),
        ceil_mode=bool(at.get("ceil_mode", 0)),
        count_include_pad=bool(at.get("count_include_pad", 0)),
    )


def _max_pool(at: Attributes, x: Any) -> Any:
    return F.max_pool2d(
        x,
        list(at["kernel_shape"]),
        stride=list(at.get("strides", [1, 1])),
        padding=_even_pads(at),
        dilation=list(at.get("dilations", [1, 1])),
        ceil_mode=bool(at.get("ceil_mode", 0)),
    )


def _even_pads(at: Attributes) -> list[int]:
    pads = list(at.get("pads", [0, 0, 0, 0]))
    if pads[:2] != pads[2:] or at.get("auto_pad", b"NOTSET") not in (b"NOTSET", "NOTSET"):
        raise ValueError(f"pooling with pads {pads} and auto_pad {at.get('auto_pad')!r}")
    return pads[:2]


def _layer_norm(at: Attributes, x: Any, weight: Any, bias: Any = None) -> Any:
    axis = at.get("axis", -1) % x.dim()
    return F.layer_norm(x, x.shape[axis:], weight, bias, at.get("epsilon", 1e-5))


def _batch_norm(at: Attributes, x: Any, *statistics: Any) -> Any:
    weight, bias, mean, variance = statistics
    return F.batch_norm(x, mean, variance, weight, bias, eps=at.get("epsilon", 1e-5))


def _gemm(at: Attributes, a: Any, b: Any, c: Any = None) -> Any:
    a = a.t() if at.get("transA", 0) else a
    b = b.t() if at.get("transB", 0) else b
    y = a @ b
    y = y if at.get("alpha", 1.0) == 1.0 else y * at["alpha"]
    if c is None:
        return y
    return y + (c if at.get("beta", 1.0) == 1.0 else c * at["beta"])


def _clip(at: Attributes, x: Any, low: Any = None, high: Any = None) -> Any:
    return torch.clamp(
        x, None if low is None else float(low), None if high is None else float(high)
    )


def _reduce(function: Callable[..., Any]) -> Operator:
    def reduce(at: Attributes, x: Any, axes: Any = None) -> Any:
        along = ints(axes) if axes is not None else list(at.get("axes", []))
        if not along and at.get("noop_with_empty_axes", 0):
            raise ValueError("a reduction of nothing")
        return function(x, along or list(range(x.dim())), bool(at.get("keepdims", 1)))

    return reduce


def _quantise(at: Attributes, x: Any, scale: Any, zero: Any = None) -> Any:
    dtype = torch.uint8 if zero is None else zero.dtype
    scale = _along(scale, x, at.get("axis", 1))
    y = x.to(torch.float32) / scale.to(torch.float32)
    if dtype.is_floating_point:
        limit = torch.finfo(dtype).max
        return y.clamp(-limit, limit).to(dtype)
    offset = 0 if zero is None else _along(zero, x, at.get("axis", 1)).to(torch.float32)
    bounds = torch.iinfo(dtype)
    return (torch.round(y) + offset).clamp(bounds.min, bounds.max).to(dtype)


def _dequantise(at: Attributes, x: Any, scale: Any, zero: Any = None) -> Any:
    y = x.to(torch.float32)
    if zero is not None and not zero.dtype.is_floating_point:
        y = y - _along(zero, x, at.get("axis", 1)).to(torch.float32)
    return (y * _along(scale, x, at.get("axis", 1)).to(torch.float32)).to(scale.dtype)


def _along(values: Any, x: Any, axis: int) -> Any:
    """Per-tensor or per-channel parameters, shaped to broadcast over x."""
    if values.numel() == 1:
        return values.reshape(())
    shape = [1] * x.dim()
    shape[axis % x.dim()] = values.numel()
    return values.reshape(shape)


def _pointwise(function: Callable[..., Any]) -> Operator:
    return lambda at, *inputs: function(*inputs)


OPERATORS: dict[str, Operator] = {
    "Add": _pointwise(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda at, x: x.to(DTYPES[at["to"]]),
    "Clip": _clip,
    "Concat": lambda at, *parts: torch.cat(parts, at["axis"]),
    "Conv": _conv,
    "DequantizeLinear": _dequantise,
    "Div": _pointwise(torch.div),
    "Erf": _pointwise(torch.erf),
    "Exp": _pointwise(torch.exp),
    "Expand": lambda at, x, shape: x.expand(torch.broadcast_shapes(x.shape, tuple(ints(shape)))),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": lambda at, x: F.gelu(
        x, approximate="tanh" if at.get("approximate") in (b"tanh", "tanh") else "none"
    ),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda at, x: x.mean(tuple(range(2, x.dim())), keepdim=True),
    "Identity": lambda at, x: x,
    "LayerNormalization": _layer_norm,
    "MatMul": _pointwise(torch.matmul),
    "MaxPool": _max_pool,
    "Mul": _pointwise(torch.mul),
    "Neg": _pointwise(torch.neg),
    "Pow": _pointwise(torch.pow),
    "QuantizeLinear": _quantise,
    "ReduceL2": _reduce(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(axes, keepdim=keep)),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keepdim=keep)),
    "Relu": _pointwise(torch.relu),
    "Reshape": _reshape,
    "Shape": lambda at, x: torch.tensor(
        list(x.shape)[at.get("start", 0) : at.get("end")], dtype=torch.int64
    ),
    "Sigmoid": _pointwise(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda at, x: torch.softmax(x, at.get("axis", -1)),
    "Split": _split,
    "Sqrt": _pointwise(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _pointwise(torch.sub),
    "Tanh": _pointwise(torch.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
