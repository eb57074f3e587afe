"""Logos, captions and pictures in pictures, up to a fifth of the area."""

from __future__ import annotations

import torch
from torch import Tensor

from training.marks.geometry import spread

__all__ = ["overlay"]


def overlay(luma: Tensor, strength: float) -> Tensor:
    """Cover a part of every picture.

    A third gets a logo (a small patch in a corner), a third a caption (a wide bar with stripes for
    letters, at times see-through), a third another picture of the batch, shrunk.

    Args:
        luma: Float32 [n, 1, side, side].
        strength: 0 to 1; scales the areas.
    """
    count, _, side, _ = luma.shape
    device = luma.device
    kind = torch.randint(0, 3, (count,), device=device)
    logo, caption = (kind == 0), (kind == 1)
    wide = torch.where(
        logo,
        spread(count, device, 0.08, 0.22),
        torch.where(caption, spread(count, device, 0.4, 1.0), spread(count, device, 0.2, 0.44)),
    )
    tall = torch.where(
        logo,
        spread(count, device, 0.06, 0.18),
        torch.where(caption, spread(count, device, 0.06, 0.18), wide),
    )
    wide, tall = wide * (0.5 + 0.5 * strength), tall * (0.5 + 0.5 * strength)
    left = torch.rand(count, device=device) * (1 - wide)
    top = torch.where(
        caption, 1 - tall - spread(count, device, 0, 0.15), torch.rand(count, device=device)
    )
    top = torch.minimum(top.clamp(min=0), 1 - tall)
    at = (torch.arange(side, device=device) + 0.5) / side
    inside = _between(at, left, wide)[:, None, None, :] * _between(at, top, tall)[:, None, :, None]
    patch = _fill(luma, kind, at)
    opacity = torch.where(caption, spread(count, device, 0.5, 1.0), torch.ones_like(wide))
    cover = inside * opacity.view(-1, 1, 1, 1)
    return luma * (1 - cover) + patch * cover


def _between(at: Tensor, start: Tensor, length: Tensor) -> Tensor:
    return ((at >= start[:, None]) & (at < (start + length)[:, None])).float()


def _fill(luma: Tensor, kind: Tensor, at: Tensor) -> Tensor:
    """What covers: stripes of two greys as letters have, or the other picture at a third."""
    count, device = len(luma), luma.device
    dark, light = (spread(count, device, *r).view(-1, 1, 1, 1) for r in ((0, 120), (130, 255)))
    rates = [spread(count, device, 10, 60).view(-1, 1) for _ in range(2)]
    phases = [spread(count, device, 0, 6.3).view(-1, 1) for _ in range(2)]
    across, down = (
        torch.sin(at * 6.283 * rate + phase) for rate, phase in zip(rates, phases, strict=True)
    )
    letters = ((across[:, None, None, :] * down[:, None, :, None]) > 0).float()
    drawn = dark + (light - dark) * letters
    other = luma.detach().roll(1, 0)
    small = torch.nn.functional.avg_pool2d(other, 4).repeat(1, 1, 4, 4)
    return torch.where((kind == 2).view(-1, 1, 1, 1), small, drawn)
