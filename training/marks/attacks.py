"""What happens to a marked still on its way to the extractor, on the device and differentiable.

A still meets one attack, at times two. The worse the bits that an attack left, the more often it is
drawn: that spends steps on the worst cases without running the extractor on several chains a
picture. Operations run over the whole batch and are kept where they were drawn, so that a step
needs no word from the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from training.marks.geometry import affine, spread, tilt, warp
from training.marks.overlays import overlay
from training.marks.quantising import block_quantise, jpeg_steps, qp_steps, to_pixels
from training.marks.resampling import blur_matrix, resized, spread_by

__all__ = ["ATTACKS", "AttackDraw", "attack"]

Operation = Callable[[Tensor, float, np.random.Generator], Tensor]

_FLOOR = 0.04
_MEMORY = 0.98


def _crop(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Crops, shifts and aspect of 4 % a side at full strength; the rest fills the square again."""
    count, most = len(x), 0.08 * strength
    across, down = (1 - spread(count, x.device, 0.0, most) for _ in range(2))
    zero = torch.zeros(count, device=x.device)
    left, top = ((1 - seen) * spread(count, x.device, -1, 1) for seen in (across, down))
    return warp(x, affine(across, down, zero, left, top))


def _rotate(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Turns of 2 degrees, zoomed so that no corner shows."""
    count = len(x)
    turn = spread(count, x.device, -1.0, 1.0) * math.radians(2) * strength
    zoom = 1 - turn.abs()
    zero = torch.zeros(count, device=x.device)
    return warp(x, affine(zoom, zoom, turn, zero, zero))


def _overlay(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    return overlay(x, strength)


def _blend(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A cross-fade with another picture of the batch, up to 35 %."""
    share = spread(len(x), x.device, 0.05, 0.05 + 0.3 * strength).view(-1, 1, 1, 1)
    return x * (1 - share) + x.detach().roll(int(rng.integers(1, max(2, len(x)))), 0) * share


def _tone(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Gain 0.6 to 1.5, contrast, gamma 0.7 to 1.4, offset."""
    count, amount = len(x), strength
    gain = torch.exp(spread(count, x.device, -0.5, 0.4) * amount).view(-1, 1, 1, 1)
    contrast = torch.exp(spread(count, x.device, -0.4, 0.4) * amount).view(-1, 1, 1, 1)
    gamma = torch.exp(spread(count, x.device, -0.35, 0.35) * amount).view(-1, 1, 1, 1)
    offset = (spread(count, x.device, -20, 20) * amount).view(-1, 1, 1, 1)
    mean = x.detach().mean((1, 2, 3), keepdim=True)
    toned = ((x - mean) * contrast + mean) * gain + offset
    return 255 * torch.pow((toned / 255).clamp(1e-3, 1), gamma)


def _blur(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Gaussian, up to 1.6 pixels of 256."""
    sigma = (0.4 + float(rng.uniform(0, 1.2)) * strength) * x.shape[-1] / 256
    return spread_by(x, blur_matrix(x.shape[-1], sigma, x.device))


def _resize(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Down to 0.4 of the side and back."""
    side = x.shape[-1]
    small = max(8, round(side * (1 - 0.6 * strength * float(rng.uniform(0.1, 1.0)))))
    kind = "bilinear" if rng.random() < 0.5 else "bicubic"
    return resized(resized(x, small), side, kind)


def _noise(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Sensor noise of 1 to 6 levels."""
    sigma = spread(len(x), x.device, 1.0, 1.0 + 5.0 * strength).view(-1, 1, 1, 1)
    return x + torch.randn_like(x) * sigma


def _jpeg(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Quality 95 down to 35."""
    quality = spread(len(x), x.device, 95 - 60 * strength, 95.0)
    return block_quantise(to_pixels(x), jpeg_steps(quality), 0.5)


def _quantise(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A video encoder's quantiser, QP 18 to 36, its grid of blocks anywhere."""
    qp = spread(len(x), x.device, 18.0, 18 + 18 * strength)
    down, across = (int(v) for v in rng.integers(0, 8, 2))
    shifted = x.roll((down, across), (2, 3))
    coded = block_quantise(to_pixels(shifted), qp_steps(qp), float(rng.uniform(1 / 6, 0.5)))
    return coded.roll((-down, -across), (2, 3))


def _recapture(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """A screen filmed by hand: tilt, the screen's raster against the sensor's, glare, noise."""
    count, device, side = len(x), x.device, x.shape[-1]
    across, down = (spread(count, device, -1, 1) * 0.025 * strength for _ in range(2))
    turn = spread(count, device, -1, 1) * math.radians(1.5) * strength
    zoom = 1 - spread(count, device, 0, 0.05) * strength
    left, top = (spread(count, device, -1, 1) * 0.02 * strength for _ in range(2))
    x = warp(x, affine(zoom, zoom, turn, left, top) @ tilt(across, down))
    x = _tone(x, 0.6 * strength, rng)
    at = torch.arange(side, device=device, dtype=torch.float32) / side
    waves = [
        torch.sin(
            2 * math.pi * spread(count, device, 8, 0.45 * side).view(-1, 1) * at
            + spread(count, device, 0, 2 * math.pi).view(-1, 1)
        )
        for _ in range(2)
    ]
    moire = waves[0][:, None, :, None] * waves[1][:, None, None, :]
    x = x * (1 + (0.04 * strength * spread(count, device, 0, 1)).view(-1, 1, 1, 1) * moire)
    slope = (spread(count, device, -1, 1) * 15 * strength).view(-1, 1, 1, 1)
    x = x + slope * (at.view(1, 1, 1, -1) * 2 - 1)
    return _noise(_blur(x, 0.5 * strength, rng), 0.5 * strength, rng)


def _identity(x: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    return x


# In the order in which they meet a picture that drew two of them.
ATTACKS: dict[str, Operation] = {
    "identity": _identity,
    "overlay": _overlay,
    "blend": _blend,
    "crop": _crop,
    "rotate": _rotate,
    "recapture": _recapture,
    "tone": _tone,
    "blur": _blur,
    "resize": _resize,
    "noise": _noise,
    "quantise": _quantise,
    "jpeg": _jpeg,
}


def attack(
    luma: Tensor, draws: Tensor, names: Sequence[str], strength: float, rng: np.random.Generator
) -> Tensor:
    """Attack a batch.

    Args:
        luma: Float32 [n, 1, side, side], 0 to 255.
        draws: Bool [n, attacks] in the order of ATTACKS.
        names: Those that can be drawn at all; the others are not computed.
        strength: 0 to 1.
        rng: Of what one step shares: scales and shifts.

    Returns:
        What the extractor sees: whole levels, gradients straight through the rounding.
    """
    x = luma
    for index, (name, operation) in enumerate(ATTACKS.items()):
        if name in names and name != "identity":
            x = torch.where(draws[:, index].view(-1, 1, 1, 1), operation(x, strength, rng), x)
    return to_pixels(x)


class AttackDraw:
    """Draws attacks by the bit errors that they left, a moving mean on the device.

    Args:
        device: Where.
    """

    def __init__(self, device: torch.device) -> None:
        self.errors = torch.full((len(ATTACKS),), 0.25, device=device)

    def draw(self, count: int, names: Sequence[str], second: float) -> Tensor:
        """Bool [count, attacks]: one for each, and with probability `second` another."""
        device = self.errors.device
        allowed = torch.tensor([float(name in names) for name in ATTACKS], device=device)
        weights = (self.errors + _FLOOR) * allowed
        picks = torch.multinomial(weights, 2 * count, replacement=True).view(2, count)
        both = torch.rand(count, device=device) < second
        picks[1] = torch.where(both, picks[1], picks[0])
        rows = torch.zeros((count, len(ATTACKS)), dtype=torch.bool, device=device)
        return rows.scatter_(1, picks.T, True)

    def learn(self, draws: Tensor, wrong: Tensor) -> None:
        """Take in the share of wrong bits of each still, [n]; draws are bool [n, attacks]."""
        share = draws.float() / draws.sum(1, keepdim=True).clamp(min=1)
        seen = share.sum(0)
        mean = (share * wrong[:, None]).sum(0) / seen.clamp(min=1e-6)
        keep = torch.where(seen > 0, _MEMORY, 1.0)
        self.errors = self.errors * keep + mean * (1 - keep)
