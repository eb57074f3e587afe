"""Gaussian blur as two products with one matrix: for one channel, faster than a convolution."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blur", "blur_matrix"]


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


def blur(luma: Tensor, matrix: Tensor) -> Tensor:
    """Blur pictures [n, 1, side, side] with `blur_matrix` of their side."""
    blurred: Tensor = matrix @ luma @ matrix.T
    return blurred
