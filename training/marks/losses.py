"""What training minimises; strength is no part of it, because the residual is locked to it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["bit_loss", "pooled_loss", "presence_loss", "visibility_penalty", "wrong_share"]

# Every fourth row and column stands for the picture: enough for its most visible hundredth.
_THIN = 4
_TOP_SHARE = 0.01


def bit_loss(logits: Tensor, bits: Tensor, carried: Tensor) -> Tensor:
    """Cross-entropy a bit, over pictures that carry a mark.

    Args:
        logits: Float32 [n, bits].
        bits: Float32 [n, bits], 0 or 1.
        carried: Float32 [n], 1 where the picture carries the mark.
    """
    each = functional.binary_cross_entropy_with_logits(logits, bits, reduction="none").mean(1)
    return (each * carried).sum() / carried.sum().clamp(min=1)


def pooled_loss(logits: Tensor, bits: Tensor, carried: Tensor, frames: int) -> Tensor:
    """Cross-entropy of the mean logits of each clip: what a reader of a whole clip decides by.

    Args:
        logits: Float32 [clips * frames, bits], frames of a clip together.
        bits: Float32 [clips * frames, bits].
        carried: Float32 [clips * frames].
        frames: Of a clip.
    """
    mean = logits.view(-1, frames, logits.shape[1]).mean(1)
    return bit_loss(mean, bits[::frames], carried[::frames])


def presence_loss(presence: Tensor, carried: Tensor) -> Tensor:
    """Cross-entropy of the presence logit [n] against what was carried [n]."""
    return functional.binary_cross_entropy_with_logits(presence, carried)


def visibility_penalty(residual: Tensor, visible: Tensor) -> Tensor:
    """Mean of the most visible hundredth of |residual| / visible, both [n, 1, side, side]."""
    ratio = (residual.abs() / visible)[:, 0, ::_THIN, ::_THIN].flatten(1)
    return ratio.topk(max(1, int(ratio.shape[1] * _TOP_SHARE)), dim=1).values.mean()


def wrong_share(logits: Tensor, bits: Tensor) -> Tensor:
    """Share of wrong bits of each picture, float32 [n]."""
    return ((logits > 0) != (bits > 0.5)).float().mean(1)


def weighted(terms: dict[str, tuple[float, Tensor]]) -> Tensor:
    """The sum of weighted terms."""
    return torch.stack([weight * value for weight, value in terms.values()]).sum()
