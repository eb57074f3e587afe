"""Rounding that lets gradients through: to uint8, and of cosine coefficients as encoders do it.

The forward pass is exact, the gradient is that of the identity (a straight-through estimator). JPEG
is its luma path; the other is what intra-coded residuals of H.264 and H.265 meet: one step for all
frequencies and a rounding that favours zero.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["block_quantise", "jpeg_steps", "qp_steps", "round_through", "to_pixels"]

# ISO/IEC 10918-1, table K.1.
_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_BLOCK = 8


def round_through(values: Tensor) -> Tensor:
    """Nearest whole numbers, with the gradient of the identity."""
    return values + (values.round() - values).detach()


def to_pixels(luma: Tensor) -> Tensor:
    """What survives being stored as uint8: whole levels of 0 to 255, still float32."""
    return round_through(luma.clamp(0, 255))


def jpeg_steps(quality: Tensor) -> Tensor:
    """Luma quantiser tables of libjpeg.

    Args:
        quality: Float32 [n], 1 to 100.

    Returns:
        Float32 [n, 8, 8].
    """
    table = torch.tensor(_LUMA, device=quality.device, dtype=torch.float32).view(1, 8, 8)
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality).view(-1, 1, 1)
    return ((table * scale + 50) / 100).floor().clamp(1, 255)


def qp_steps(qp: Tensor) -> Tensor:
    """Flat quantiser tables of a quantisation parameter of H.264, float32 [n, 8, 8].

    The step doubles every 6 and is 0.625 at 0, in units of an orthonormal transform.
    """
    step = 0.625 * torch.pow(2.0, qp / 6)
    return step.view(-1, 1, 1).expand(-1, _BLOCK, _BLOCK)


def block_quantise(luma: Tensor, steps: Tensor, offset: float) -> Tensor:
    """Quantise every 8x8 block's cosine coefficients.

    Args:
        luma: Float32 [n, 1, side, side], 0 to 255; side is a multiple of 8.
        steps: Float32 [n, 8, 8], grey levels of an orthonormal transform.
        offset: What is added to a magnitude before it is cut: 0.5 rounds to nearest, an encoder's
            1/6 to 1/3 favours zero.

    Returns:
        Float32 of the same shape, not clipped.
    """
    side = luma.shape[-1]
    basis = _cosines(side, luma.device)
    steps = steps.repeat(1, side // _BLOCK, side // _BLOCK)[:, None]
    scaled = (basis @ (luma - 128) @ basis.T) / steps
    whole = scaled.sign() * (scaled.abs() + offset).floor()
    kept = (scaled + (whole - scaled).detach()) * steps
    pixels: Tensor = basis.T @ kept @ basis
    return pixels + 128


@lru_cache(maxsize=8)
def _cosines(side: int, device: torch.device) -> Tensor:
    """The orthonormal 8-point DCT-II of every block of a side, [side, side]."""
    places = torch.arange(_BLOCK, device=device, dtype=torch.float32)
    rows = torch.cos((2 * places[None] + 1) * places[:, None] * math.pi / (2 * _BLOCK))
    scale = torch.full((_BLOCK, 1), math.sqrt(2 / _BLOCK), device=device)
    scale[0] = math.sqrt(1 / _BLOCK)
    return torch.block_diag(*[rows * scale] * (side // _BLOCK))
