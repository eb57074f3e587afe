"""Blurs and changes of size as products with small matrices.

For one channel on a GPU this is several times faster than convolutions and interpolation, whose
kernels are made for many channels, and its gradient needs no atomic additions.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["blur_matrix", "resample_matrix", "resized", "spread_by"]

_CUBIC = -0.5


def blur_matrix(side: int, sigma: float, device: torch.device | None = None) -> Tensor:
    """Rows of Gaussian weights that sum to 1, also at the edges; float32 [side, side].

    Args:
        side: Of the pictures.
        sigma: Standard deviation, pixels.
        device: Where.
    """
    at = torch.arange(side, device=device, dtype=torch.float32)
    weights = torch.exp(-(at[:, None] - at[None]).square() / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)


def resample_matrix(
    out: int, side: int, kind: str = "bilinear", device: torch.device | None = None
) -> Tensor:
    """Pillow's resampling: the filter widens where the picture shrinks.

    Args:
        out: Side that comes out.
        side: Side that goes in.
        kind: `bilinear` or `bicubic`.
        device: Where.

    Returns:
        Float32 [out, side], rows that sum to 1.
    """
    scale = side / out
    centres = (torch.arange(out, device=device, dtype=torch.float32) + 0.5) * scale - 0.5
    places = torch.arange(side, device=device, dtype=torch.float32)
    x = ((places[None] - centres[:, None]) / max(scale, 1.0)).abs()
    if kind == "bilinear":
        weights = (1 - x).clamp(min=0)
    else:
        near = ((_CUBIC + 2) * x - (_CUBIC + 3)) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * _CUBIC
        weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    return weights / weights.sum(1, keepdim=True)


def spread_by(luma: Tensor, matrix: Tensor) -> Tensor:
    """Apply a matrix [out, side] to both sides of pictures [n, 1, side, side]."""
    changed: Tensor = matrix @ luma @ matrix.T
    return changed


def resized(luma: Tensor, side: int, kind: str = "bilinear") -> Tensor:
    """Squares [n, 1, h, h] at another side, [n, 1, side, side]."""
    if luma.shape[-1] == side:
        return luma
    return spread_by(luma, _kept(side, luma.shape[-1], kind, luma.device))


@lru_cache(maxsize=256)
def _kept(out: int, side: int, kind: str, device: torch.device) -> Tensor:
    return resample_matrix(out, side, kind, device)
