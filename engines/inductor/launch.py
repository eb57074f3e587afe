"""Our kernels as torch operators: shapes, tiles and grids.

Tiles were chosen by measuring on a Hopper GPU (benchmarks/results/engines-h200.json); they run on
any GPU that Triton supports with tensor maps, and are not tuned for others.
"""

from __future__ import annotations

import math

import torch
import triton
from torch.library import triton_op, wrap_triton

from engines.inductor import kernels

__all__ = ["add_norm", "attention", "gemm"]

_TILE = 128
_WIDE, _NARROW = 256, 128
# A tile of half the width costs a little more than half.
_NARROW_COST = 0.55
# Rows of tiles that are walked together: how much of the operands stays in the cache.
_GROUP_HALF, _GROUP_QUANTISED = 16, 8


@triton_op("reelsight::attention", mutates_args={})
def attention(
    qkv: torch.Tensor, heads: int, scale: float, out_dtype: torch.dtype, out_scale: float
) -> torch.Tensor:
    """Softmax attention over a packed projection.

    Args:
        qkv: fp16 or bf16 [B, T, 3 * D], contiguous: queries, keys, values, each by head.
        heads: Number of heads; D / heads is 64 or another power of two.
        scale: Of the scores.
        out_dtype: That of qkv, float8_e4m3fn or int8.
        out_scale: Of a quantised output.

    Returns:
        [B, T, D].
    """
    batch, tokens, width = qkv.shape
    head = width // 3 // heads
    out = torch.empty((batch, tokens, width // 3), dtype=out_dtype, device=qkv.device)
    # Wider heads would not fit their stages into shared memory.
    whole = head <= 64 and tokens > _TILE and (tokens - 1) % _TILE == 0
    if whole:
        kernel, rows, cols, warps = kernels.attention_class_first, _TILE, _TILE, 4
        tiles = (tokens - 1) // rows + 1
    elif tokens <= 64:
        kernel, rows, cols, warps = kernels.attention_tiles, 64, 32, 4
        tiles = triton.cdiv(tokens, rows)
    else:
        kernel, rows, cols, warps = kernels.attention_tiles, _TILE, 64, 8
        tiles = triton.cdiv(tokens, rows)
    wrap_triton(kernel)[(batch * heads, tiles)](
        qkv,
        out,
        tokens,
        heads,
        scale * math.log2(math.e),
        1.0 / out_scale,
        HEAD=head,
        ROWS=rows,
        COLS=cols,
        num_warps=warps,
        num_stages=3,
    )
    return out


@triton_op("reelsight::gemm", mutates_args={})
def gemm(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    weight_scale: torch.Tensor,
    x_scale: float,
    activation: str,
    out_dtype: torch.dtype,
    out_scale: float,
) -> torch.Tensor:
    """activation(x @ weight.T, scaled, + bias).

    Args:
        x: [M, K], contiguous: fp16, bf16, float8_e4m3fn or int8.
        weight: [N, K], contiguous, of the same type.
        bias: [N].
        weight_scale: float32 [N] for quantised operands; ignored for others.
        x_scale: Scale of a quantised x.
        activation: "", "gelu" (tanh form), "gelu_erf" or "quick_gelu".
        out_dtype: Of the result.
        out_scale: Of a quantised result.

    Returns:
        [M, N].
    """
    m, k = x.shape
    n = weight.shape[0]
    out = torch.empty((m, n), dtype=out_dtype, device=x.device)
    scaled = x.element_size() == 1
    rows, cols = _tiles(m, n)
    programs = min(_processors(), triton.cdiv(m, rows) * triton.cdiv(n, cols))
    wrap_triton(kernels.gemm)[(programs,)](
        x,
        weight,
        bias,
        weight_scale,
        out,
        x_scale,
        1.0 / out_scale,
        m,
        n,
        k,
        ROWS=rows,
        COLS=cols,
        DEPTH=128 // x.element_size(),
        GROUP=_GROUP_QUANTISED if scaled else _GROUP_HALF,
        PROGRAMS=programs,
        SCALED=scaled,
        ACTIVATION=activation,
        num_warps=8 if rows * cols > 128 * 64 else 4,
        num_stages=3,
    )
    return out


@triton_op("reelsight::add_norm", mutates_args={})
def add_norm(
    x: torch.Tensor,
    y: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    epsilon: float,
    out_dtype: torch.dtype,
    out_scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A residual sum, and its layer norm over the last axis.

    Args:
        x: fp16 or bf16 [..., D], contiguous.
        y: Likewise.
        weight: [D].
        bias: [D].
        epsilon: Added to the variance.
        out_dtype: Of the norm: that of x, float8_e4m3fn or int8.
        out_scale: Of a quantised norm.

    Returns:
        x + y, rounded to the type of x, and the norm of that.
    """
    width = x.shape[-1]
    total = torch.empty_like(x)
    out = torch.empty_like(x, dtype=out_dtype)
    wrap_triton(kernels.add_norm)[(x.numel() // width,)](
        x,
        y,
        weight,
        bias,
        total,
        out,
        epsilon,
        1.0 / out_scale,
        width,
        BLOCK=triton.next_power_of_2(width),
        num_warps=4,
    )
    return total, out


def _tiles(m: int, n: int) -> tuple[int, int]:
    """Rows and columns of a tile: as large as keeps every processor busy to the end."""
    if m <= 1024:
        return 64, 64 if n <= 1024 else 128
    processors = _processors()
    down = triton.cdiv(m, _TILE)
    wide = triton.cdiv(down * triton.cdiv(n, _WIDE), processors)
    narrow = triton.cdiv(down * triton.cdiv(n, _NARROW), processors) * _NARROW_COST
    return _TILE, _WIDE if wide <= narrow else _NARROW


def _processors() -> int:
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).multi_processor_count)
