"""The network that draws a mark for one picture: carriers, a guide that sees the picture, a lock.

Spread spectrum is the starting point: the sum of the carriers, each with its bit's sign. A small
network looks at the picture and may turn that sum up or down from place to place and add a bounded
correction; it begins by doing neither. The residual is shaped by what goes unnoticed and scaled to
an exact strength, so that strength is asked for and never learned.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.marks.carriers import BandPass, first_carriers
from training.marks.recipe import Shape
from training.marks.resampling import resample_matrix, spread_by
from training.marks.visibility import lock_psnr, visibility_map

__all__ = ["Embedder", "Guide"]

_MOST_CORRECTION = 0.3
# Keeps a place from vanishing or ruling where the visibility map is extreme.
_MASK_RANGE = (0.25, 4.0)


class Embedder(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """Luma and bits to a residual.

    Args:
        shape: Sizes.
        seed: Of the carriers.

    Attributes:
        masking: Exponent of the visibility map, 0 to 1; a schedule moves it, an export freezes it.
        fast: Whether the guide computes in bfloat16.
    """

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        self.carriers = nn.Parameter(first_carriers(shape, np.random.default_rng([seed, 5])))
        self.band = BandPass(shape.grid, shape.band)
        self.guide = Guide(shape.guide_widths)
        for name, out, side in (
            ("to_guide", shape.guide, shape.grid),
            ("to_size", shape.size, shape.guide),
        ):
            matrix = resample_matrix(out, side, "bicubic")
            self.register_buffer(name, matrix, persistent=False)
        self.register_buffer("masking", torch.tensor(1.0))
        self.fast = False

    def tables(self) -> Tensor:
        """The carriers inside their band, float32 [bits, grid, grid]."""
        with torch.autocast(self.carriers.device.type, enabled=False):
            inside: Tensor = self.band(self.carriers)
        return inside

    def forward(
        self, luma: Tensor, bits: Tensor, strength: Tensor, tables: Tensor | None = None
    ) -> Tensor:
        """Draw a residual.

        Args:
            luma: Float32 [n, 1, size, size], 0 to 255.
            bits: Float32 [n, bits], 0 or 1.
            strength: Float32 [n], PSNR in dB that the residual costs.
            tables: Carriers to use; the network's own when None.

        Returns:
            Float32 [n, 1, size, size], grey levels to add to the picture.
        """
        own = self.tables() if tables is None else tables
        grid, side = self.shape.grid, self.shape.guide
        spread = ((bits * 2 - 1) @ own.flatten(1)).view(-1, 1, grid, grid)
        spread = spread / torch.sqrt(spread.square().mean((1, 2, 3), keepdim=True) + 1e-12)
        spread = spread_by(spread, self.to_guide)
        step = self.shape.size // side
        small = functional.avg_pool2d(luma, step) if step > 1 else luma
        with torch.autocast(luma.device.type, torch.bfloat16, enabled=self.fast):
            gain, correction = self.guide(small, spread)
        drawn = spread * gain + correction
        drawn = spread_by(drawn, self.to_size)
        visible = visibility_map(luma)
        relative = visible / visible.mean((1, 2, 3), keepdim=True)
        mask = torch.pow(relative.clamp(*_MASK_RANGE), self.masking)
        return lock_psnr(drawn * mask, strength)


class Guide(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    """A small U-Net: gain 0 to 2 and correction of at most 0.3, at 1 and 0 before training.

    Args:
        widths: Channels, outermost first.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        inputs = 3
        self.down = nn.ModuleList()
        for width in widths:
            self.down.append(_pair(inputs, width))
            inputs = width
        self.up = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up.append(_pair(inputs + width, width))
            inputs = width
        self.last = nn.Conv2d(inputs, 2, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, luma: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Gain and correction, [n, 1, side, side] each."""
        around = functional.avg_pool2d(
            functional.pad(luma, (3, 3, 3, 3), mode="replicate"), 7, stride=1
        )
        activity = (luma - around).abs()
        x = torch.cat([(luma - 128) / 64, spread, activity / 16], 1)
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(functional.avg_pool2d(x, 2) if level else x)
            kept.append(x)
        for block, beside in zip(self.up, reversed(kept[:-1]), strict=True):
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, beside], 1))
        gain, correction = self.last(x).float().chunk(2, 1)
        return 2 * torch.sigmoid(gain), _MOST_CORRECTION * torch.tanh(correction)


def _pair(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
    )
