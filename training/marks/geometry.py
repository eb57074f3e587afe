"""Resampling with one homography a picture: crops, turns, aspect, and a filmed screen's tilt."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["affine", "spread", "tilt", "warp"]


def spread(count: int, device: torch.device, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Uniform random numbers, float32 [count]."""
    return low + (high - low) * torch.rand(count, device=device)


def affine(zoom_x: Tensor, zoom_y: Tensor, turn: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Homographies from output to input places, both in -1 to 1.

    Args:
        zoom_x: Share of the input's width that is seen, [n].
        zoom_y: Share of its height, [n].
        turn: Radians, [n].
        x: Centre of what is seen, [n].
        y: Centre of what is seen, [n].

    Returns:
        Float32 [n, 3, 3].
    """
    cos, sin, zero, one = turn.cos(), turn.sin(), torch.zeros_like(x), torch.ones_like(x)
    rows = (zoom_x * cos, -zoom_y * sin, x, zoom_x * sin, zoom_y * cos, y, zero, zero, one)
    return torch.stack(rows, 1).view(-1, 3, 3)


def tilt(across: Tensor, down: Tensor) -> Tensor:
    """Homographies of a plane seen at an angle; 0.1 shortens one side by about a tenth."""
    homography = torch.eye(3, device=across.device).repeat(len(across), 1, 1)
    homography[:, 2, 0] = across
    homography[:, 2, 1] = down
    return homography


def warp(luma: Tensor, homographies: Tensor, side: int | None = None) -> Tensor:
    """Look at pictures through homographies.

    Args:
        luma: Float32 [n, 1, h, w].
        homographies: Float32 [n, 3, 3], output to input.
        side: Of the output; the input's own when None.

    Returns:
        Float32 [n, 1, side, side]; beyond the input's edge its mirror image shows.
    """
    height, width = (luma.shape[-2], luma.shape[-1]) if side is None else (side, side)
    device = luma.device
    ys = (torch.arange(height, device=device) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=device) * 2 + 1) / width - 1
    plane = torch.stack([xs[None].expand(height, -1), ys[:, None].expand(-1, width)], -1).reshape(
        1, -1, 2
    )
    places = torch.cat([plane, torch.ones_like(plane[..., :1])], -1) @ homographies.mT
    grid = (places[..., :2] / places[..., 2:]).view(-1, height, width, 2)
    seen: Tensor = functional.grid_sample(
        luma, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return seen
