"""How visible a change of luma is: the map that shapes the residual, and the measures of its cost.

The map follows the spatial part of Yang et al. (Just Noticeable Distortion Model and Its
Applications in Video Coding, 2005), as its successors for watermarks use it: luminance masking,
contrast masking, and their overlap taken off. Their threshold in the dark is that of tube displays
and is capped here: on today's displays dark flats are where blotches show.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["lock_psnr", "psnr", "ssim", "visibility_map"]

_DARK_CAP = 6.0
_OVERLAP = 0.3
_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))


def visibility_map(luma: Tensor) -> Tensor:
    """Grey levels that go unnoticed at every place.

    Args:
        luma: Float32 [n, 1, side, side], 0 to 255.

    Returns:
        Float32 of the same shape, about 3 (mid-grey flats) to 15 (strong texture).
    """
    padded = functional.pad(luma, (2, 2, 2, 2), mode="replicate")
    background = functional.avg_pool2d(padded, 5, stride=1)
    dark = 17 * (1 - torch.sqrt(background.clamp(min=1) / 127).clamp(max=1)) + 3
    light = 3 * (background - 127) / 128 + 3
    luminance = torch.where(background < 127, dark.clamp(max=_DARK_CAP), light)
    edges = torch.tensor(_SOBEL, device=luma.device, dtype=luma.dtype) / 8
    kernels = torch.stack([edges, edges.T])[:, None]
    slopes = functional.conv2d(functional.pad(luma, (1, 1, 1, 1), mode="replicate"), kernels)
    # One side of an edge masks the other: the strength around a place counts, not at it alone.
    power = functional.avg_pool2d(
        functional.pad(slopes.square().sum(1, keepdim=True), (2, 2, 2, 2), mode="replicate"),
        5,
        stride=1,
    )
    slope = torch.sqrt(power + 1e-6)
    contrast = 0.117 * 16 * torch.pow(slope, 2.4) / (slope.square() + 26**2)
    return luminance + contrast - _OVERLAP * torch.minimum(luminance, contrast)


def lock_psnr(residual: Tensor, target: Tensor) -> Tensor:
    """Scale each residual to one exact strength.

    Args:
        residual: Float32 [n, 1, side, side].
        target: Float32 [n], dB against a peak of 255.

    Returns:
        The residual in grey levels, whose RMS is 255 / 10^(target / 20).
    """
    rms = torch.sqrt(residual.square().mean((1, 2, 3), keepdim=True) + 1e-12)
    wanted = 255.0 * torch.pow(10.0, -target / 20.0)
    return residual * (wanted.view(-1, 1, 1, 1) / rms)


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Float32 [n] dB between pictures [n, 1, side, side] of 0 to 255."""
    error = (first - second).square().mean((1, 2, 3)).clamp(min=1e-6)
    return 10 * torch.log10(255.0**2 / error)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean structural similarity (Wang et al., 2004), 11-pixel Gaussian windows, float32 [n]."""
    offsets = torch.arange(11, device=first.device, dtype=first.dtype) - 5
    window = torch.exp(-offsets.square() / (2 * 1.5**2))
    window = (window / window.sum()).view(1, 1, 11, 1)

    def mean(x: Tensor) -> Tensor:
        smoothed: Tensor = functional.conv2d(functional.conv2d(x, window), window.mT)
        return smoothed

    mean_a, mean_b = mean(first), mean(second)
    variance_a = mean(first.square()) - mean_a.square()
    variance_b = mean(second.square()) - mean_b.square()
    covariance = mean(first * second) - mean_a * mean_b
    one, two = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    shape = (2 * covariance + two) / (variance_a + variance_b + two)
    light = (2 * mean_a * mean_b + one) / (mean_a.square() + mean_b.square() + one)
    return (light * shape).mean((1, 2, 3))
