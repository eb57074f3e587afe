"""Triton kernels for what libraries do badly at an image tower's shapes.

A tower's sequences are short and often one longer than a multiple of a tile (257: a class token
before 16 x 16 patches), which costs a general flash attention a third of its work. Its GEMMs are
followed by a bias, a GELU and a quantisation, each of which a library makes a pass over memory;
so are its residual sums, by a norm.
The module knows pointers and shapes; `launch` knows tensors.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

__all__ = ["add_norm", "attention_class_first", "attention_tiles", "gemm"]


@triton.jit
def _stored(y, to_out, out):
    """Values as they are stored: rounded for int8, saturated for FP8 and int8."""
    kind: tl.constexpr = out.dtype.element_ty
    if kind == tl.int8:
        return tl.clamp(libdevice.rint(y * to_out), -128.0, 127.0).to(tl.int8)
    if kind == tl.float8e4nv:
        # What overflowed to NaN must reach whoever looks for it.
        everywhere: tl.constexpr = tl.PropagateNan.ALL
        return tl.clamp(y * to_out, -448.0, 448.0, propagate_nan=everywhere).to(tl.float8e4nv)
    return y.to(kind)


@triton.jit
def attention_tiles(
    qkv,
    out,
    tokens,
    heads,
    scale,
    to_out,
    HEAD: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """Softmax attention, one program a (picture and head, tile of queries); any token count.

    Args:
        qkv: [pictures, tokens, 3, heads, HEAD].
        out: [pictures, tokens, heads, HEAD].
        scale: Of the scores, times log2(e): the softmax is in base 2.
        to_out: Reciprocal of the scale of a quantised output.
    """
    scale = tl.full([], scale, tl.float32)  # A compiler may pass Python's floats as float64.
    to_out = tl.full([], to_out, tl.float32)
    picture = tl.program_id(0) // heads
    head = tl.program_id(0) % heads
    stride = 3 * heads * HEAD
    base = qkv + picture.to(tl.int64) * tokens * stride + head * HEAD
    dims = tl.arange(0, HEAD)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    q = tl.load(base + rows[:, None] * stride + dims[None, :], mask=rows[:, None] < tokens, other=0)
    highest = tl.full([ROWS], -1e30, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, HEAD], tl.float32)
    for start in range(0, tokens, COLS):
        cols = start + tl.arange(0, COLS)
        inside = cols < tokens
        at = base + cols[:, None] * stride + dims[None, :]
        k = tl.load(at + heads * HEAD, mask=inside[:, None], other=0)
        v = tl.load(at + 2 * heads * HEAD, mask=inside[:, None], other=0)
        s = tl.where(inside[None, :], tl.dot(q, tl.trans(k)) * scale, -1e30)
        higher = tl.maximum(highest, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None])
        highest = higher
    to = out + (picture.to(tl.int64) * tokens + rows[:, None]) * heads * HEAD
    y = _stored(acc / total[:, None], to_out, out)
    tl.store(to + head * HEAD + dims[None, :], y, mask=rows[:, None] < tokens)


@triton.jit
def attention_class_first(
    qkv,
    out,
    tokens,
    heads,
    scale,
    to_out,
    HEAD: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
):
    """The same for 1 + k * ROWS tokens: token 0 is done apart, so that no tile is cut.

    The last program of a head answers the query of token 0, without matrix units; every other
    starts its online softmax at the key of token 0.
    """
    scale = tl.full([], scale, tl.float32)  # A compiler may pass Python's floats as float64.
    to_out = tl.full([], to_out, tl.float32)
    picture = tl.program_id(0) // heads
    head = tl.program_id(0) % heads
    stride = 3 * heads * HEAD
    base = qkv + picture.to(tl.int64) * tokens * stride + head * HEAD
    dims = tl.arange(0, HEAD)
    k0 = tl.load(base + heads * HEAD + dims).to(tl.float32)
    v0 = tl.load(base + 2 * heads * HEAD + dims).to(tl.float32)
    to = out + picture.to(tl.int64) * tokens * heads * HEAD + head * HEAD
    tile = tl.program_id(1)
    if tile == tl.num_programs(1) - 1:
        q0 = tl.load(base + dims).to(tl.float32)
        top = tl.sum(q0 * k0) * scale
        sum0 = 1.0
        acc0 = v0
        for start in range(1, tokens, COLS):
            at0 = base + (start + tl.arange(0, COLS))[:, None] * stride + dims[None, :]
            ks = tl.load(at0 + heads * HEAD).to(tl.float32)
            vs = tl.load(at0 + 2 * heads * HEAD).to(tl.float32)
            s0 = tl.sum(ks * q0[None, :], 1) * scale
            high0 = tl.maximum(top, tl.max(s0, 0))
            p0 = tl.exp2(s0 - high0)
            less0 = tl.exp2(top - high0)
            sum0 = sum0 * less0 + tl.sum(p0, 0)
            acc0 = acc0 * less0 + tl.sum(p0[:, None] * vs, 0)
            top = high0
        tl.store(to + dims, _stored(acc0 / sum0, to_out, out))
    else:
        rows = 1 + tile * ROWS + tl.arange(0, ROWS)
        q = tl.load(base + rows[:, None] * stride + dims[None, :])
        highest = tl.sum(q.to(tl.float32) * k0[None, :], 1) * scale
        total = tl.full([ROWS], 1.0, tl.float32)
        acc = tl.zeros([ROWS, HEAD], tl.float32) + v0[None, :]
        for start in range(1, tokens, COLS):
            at = base + (start + tl.arange(0, COLS))[:, None] * stride + dims[None, :]
            k = tl.load(at + heads * HEAD)
            v = tl.load(at + 2 * heads * HEAD)
            s = tl.dot(q, tl.trans(k)) * scale
            higher = tl.maximum(highest, tl.max(s, 1))
            p = tl.exp2(s - higher[:, None])
            shrink = tl.exp2(highest - higher)
            total = total * shrink + tl.sum(p, 1)
            acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None])
            highest = higher
        y = _stored(acc / total[:, None], to_out, out)
        tl.store(to + rows[:, None] * heads * HEAD + dims[None, :], y)


@triton.jit
def add_norm(x, y, weight, bias, total, out, epsilon, to_out, width, BLOCK: tl.constexpr):
    """A sum and its layer norm, one program a row.

    Args:
        x, y, total: [rows, width], of one type; total = x + y.
        weight, bias: [width].
        out: [rows, width], any type that _stored knows.
        to_out: Reciprocal of the scale of a quantised output.
    """
    epsilon = tl.full([], epsilon, tl.float32)  # A compiler may pass Python's floats as float64.
    to_out = tl.full([], to_out, tl.float32)
    cols = tl.arange(0, BLOCK)
    inside = cols < width
    at = tl.program_id(0).to(tl.int64) * width + cols
    both = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    both += tl.load(y + at, mask=inside, other=0).to(tl.float32)
    both = both.to(total.dtype.element_ty)
    tl.store(total + at, both, mask=inside)
    both = both.to(tl.float32)
    centred = tl.where(inside, both - tl.sum(both, 0) / width, 0)
    unit = centred * tl.rsqrt(tl.sum(centred * centred, 0) / width + epsilon)
    normed = unit * tl.load(weight + cols, mask=inside, other=0).to(tl.float32)
    normed += tl.load(bias + cols, mask=inside, other=0).to(tl.float32)
    tl.store(out + at, _stored(normed, to_out, out), mask=inside)


@triton.jit
def _tanh(x):
    return tl.inline_asm_elementwise(
        "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
    )


@triton.jit
def _activated(y, ACTIVATION: tl.constexpr):
    """The activations of CLIP towers; tanh is the device's, good to 5e-4 of its value."""
    if ACTIVATION == "gelu":
        y = 0.5 * y * (1.0 + _tanh(0.7978845608028654 * y * (1.0 + 0.044715 * y * y)))
    if ACTIVATION == "gelu_erf":
        y = 0.5 * y * (1.0 + tl.erf(y * 0.7071067811865476))
    if ACTIVATION == "quick_gelu":
        y = 0.5 * y * (1.0 + _tanh(0.851 * y))
    return y


@triton.jit
def gemm(
    x,
    weight,
    bias,
    weight_scale,
    out,
    x_scale,
    to_out,
    m,
    n,
    k,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
    PROGRAMS: tl.constexpr,
    SCALED: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """activation(x [m, k] @ weight [n, k].T * scales + bias), persistent, through tensor maps.

    Args:
        x, weight: fp16 or bf16, or both FP8 or int8 with SCALED.
        bias: [n].
        weight_scale: float32 [n]; read when SCALED.
        out: [m, n], any type that _stored knows.
        x_scale: Scale of x; used when SCALED.
        to_out: Reciprocal of the scale of a quantised output.
    """
    x_scale = tl.full([], x_scale, tl.float32)  # A compiler may pass Python's floats as float64.
    to_out = tl.full([], to_out, tl.float32)
    left = tl.make_tensor_descriptor(x, [m, k], [k, 1], [ROWS, DEPTH])
    right = tl.make_tensor_descriptor(weight, [n, k], [k, 1], [COLS, DEPTH])
    result = tl.make_tensor_descriptor(out, [m, n], [n, 1], [ROWS, COLS])
    down = tl.cdiv(m, ROWS)
    across = tl.cdiv(n, COLS)
    band = GROUP * across
    kind: tl.constexpr = tl.int32 if x.dtype.element_ty == tl.int8 else tl.float32
    for tile in tl.range(tl.program_id(0), down * across, PROGRAMS, flatten=True):
        first = (tile // band) * GROUP
        high = tl.minimum(down - first, GROUP)
        row = (first + tile % high) * ROWS
        col = ((tile % band) // high) * COLS
        acc = tl.zeros((ROWS, COLS), kind)
        for step in range(tl.cdiv(k, DEPTH)):
            a = left.load([row, step * DEPTH])
            b = right.load([col, step * DEPTH])
            acc = tl.dot(a, b.T, acc, out_dtype=kind)
        cols = col + tl.arange(0, COLS)
        y = acc.to(tl.float32)
        if SCALED:
            y = y * (tl.load(weight_scale + cols, mask=cols < n, other=0) * x_scale)[None, :]
        y = y + tl.load(bias + cols, mask=cols < n, other=0).to(tl.float32)[None, :]
        result.store([row, col], _stored(_activated(y, ACTIVATION), to_out, out))
