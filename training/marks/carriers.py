"""The carrier table's first values, and the band that it never leaves.

A carrier per bit, each spread over the whole picture: band-limited noise. It begins in the low part
of its band, which codecs spare and a few channels a cell can tell apart; training may move it up.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.marks.recipe import Shape

__all__ = ["BandPass", "first_carriers"]

# The first carriers end at this many times the band's lowest frequency.
_FIRST_SPAN = 3.0


class BandPass(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Keeps the frequencies of a band, with edges half a cycle soft.

    Args:
        grid: Side of the tables.
        band: Lowest and highest frequency, cycles per side.
    """

    def __init__(self, grid: int, band: tuple[float, float]) -> None:
        super().__init__()
        vertical = torch.fft.fftfreq(grid, 1 / grid)[:, None]
        horizontal = torch.fft.rfftfreq(grid, 1 / grid)[None]
        radius = torch.sqrt(vertical**2 + horizontal**2)
        mask = torch.sigmoid((radius - band[0]) * 4) * torch.sigmoid((band[1] - radius) * 4)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tables: Tensor) -> Tensor:
        """Float32 [n, grid, grid] to the same, filtered."""
        spectrum = torch.fft.rfft2(tables)
        filtered: Tensor = torch.fft.irfft2(spectrum * self.mask, s=tables.shape[-2:])
        return filtered


def first_carriers(shape: Shape, rng: np.random.Generator) -> Tensor:
    """Random carriers of unit RMS, float32 [bits, grid, grid]."""
    noise = rng.standard_normal((shape.bits, shape.grid, shape.grid), dtype=np.float32)
    low, high = shape.band
    band = BandPass(shape.grid, (low, min(high, low * _FIRST_SPAN)))
    tables: Tensor = band(torch.from_numpy(noise))
    return tables / tables.square().mean((1, 2), keepdim=True).sqrt()
