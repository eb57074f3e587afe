"""The carrier table's first values, and the band that it never leaves.

A carrier per bit, each spread over the whole picture. Slots are what a convolution can learn to
read: every cell of the picture holds the same few waves, each wave of each cell carries one bit,
and a bit owns slots all over the picture. Random carriers of the same band hold as much, but a
network with shared filters has to learn a template for every place.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from training.marks.recipe import Shape

__all__ = ["BandPass", "noise_carriers", "slot_carriers"]

# Slots begin at the low end of the band, where codecs spare them; training may move them up.
_FIRST_OCTAVE = 3.0


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


def slot_carriers(shape: Shape, rng: np.random.Generator) -> Tensor:
    """Carriers of unit RMS whose cells share their waves, float32 [bits, grid, grid]."""
    cell = shape.grid // shape.cells
    waves = _waves(cell, shape)
    slots = shape.cells**2 * len(waves)
    owners = rng.permutation(np.arange(slots) % shape.bits).reshape(
        shape.cells, shape.cells, len(waves)
    )
    signs = rng.choice([-1.0, 1.0], owners.shape)
    tables = np.zeros((shape.bits, shape.grid, shape.grid), np.float32)
    for row in range(shape.cells):
        for column in range(shape.cells):
            area = (
                slice(row * cell, (row + 1) * cell),
                slice(column * cell, (column + 1) * cell),
            )
            for index, wave in enumerate(waves):
                owner = int(owners[row, column, index])
                tables[owner][area] += signs[row, column, index] * wave
    return _unit(torch.from_numpy(tables), shape)


def noise_carriers(shape: Shape, rng: np.random.Generator) -> Tensor:
    """Random carriers of unit RMS in the band, float32 [bits, grid, grid]."""
    noise = rng.standard_normal((shape.bits, shape.grid, shape.grid), dtype=np.float32)
    return _unit(torch.from_numpy(noise), shape)


def _waves(cell: int, shape: Shape) -> list[np.ndarray]:
    """Cosine products over one cell, of the band's lowest frequencies."""
    low = shape.band[0]
    high = min(shape.band[1], low * _FIRST_OCTAVE)
    at = (np.arange(cell) + 0.5) * math.pi / cell
    waves = []
    for down in range(cell):
        for across in range(cell):
            cycles = math.hypot(down, across) / 2 * shape.cells
            if low <= cycles <= high:
                waves.append(np.outer(np.cos(down * at), np.cos(across * at)).astype(np.float32))
    return waves


def _unit(tables: Tensor, shape: Shape) -> Tensor:
    filtered: Tensor = BandPass(shape.grid, shape.band)(tables)
    return filtered / filtered.square().mean((1, 2), keepdim=True).sqrt()
