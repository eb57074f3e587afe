"""One step's pictures: stills in pairs of opposite bits, clips, and pictures without our mark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.marks.attacks import AttackDraw, attack
from training.marks.clip_line import MarkedClips, mark_frames
from training.marks.embedder import Embedder
from training.marks.geometry import spread
from training.marks.pictures import Clips, Pictures
from training.marks.quantising import to_pixels
from training.marks.recipe import Recipe
from training.marks.schedule import Place

__all__ = ["Batch", "MarkedStills", "new_clips", "new_stills", "seen_by_extractor"]

_PSNR_SPREAD = 1.0
# After a real encoder, most clips arrive as they are.
_AFTER_CODEC = 0.3


@dataclass
class MarkedStills:
    """Stills with their residuals.

    Attributes:
        luma: Float32 [n, 1, size, size].
        residual: What is added: ours, nothing, or a foreign one.
        bits: Float32 [n, bits].
        carried: Float32 [n], 1 where the residual is ours.
    """

    luma: Tensor
    residual: Tensor
    bits: Tensor
    carried: Tensor


@dataclass
class Batch:
    """What the extractor is shown.

    Attributes:
        luma: Float32 [n, 1, size, size]: stills first, then frames, those of a clip together.
        bits: Float32 [n, bits].
        carried: Float32 [n].
        draws: Attacks of every picture, bool [n, attacks].
        stills: How many of them are stills.
    """

    luma: Tensor
    bits: Tensor
    carried: Tensor
    draws: Tensor
    stills: int


def _strength(place: Place, count: int, device: torch.device) -> Tensor:
    target = place.between(place.stage.psnr)
    return spread(count, device, target - _PSNR_SPREAD, target + _PSNR_SPREAD)


def _bits(count: int, bits: int, device: torch.device) -> Tensor:
    return torch.randint(0, 2, (count, bits), device=device).float()


def new_stills(embedder: Embedder, pictures: Pictures, place: Place, count: int) -> MarkedStills:
    """Mark stills; each picture comes twice, with opposite bits.

    A share of the pairs carries nothing, or our residual transposed and shifted: a mark, not ours.
    """
    device, half = pictures.device, count // 2
    luma = pictures.stills(half).repeat(2, 1, 1, 1)
    some = _bits(half, embedder.shape.bits, device)
    bits = torch.cat([some, 1 - some])
    residual = embedder(luma, bits, _strength(place, half, device).repeat(2))
    fate = torch.rand(half, device=device).repeat(2).view(-1, 1, 1, 1)
    negatives = place.stage.negatives
    size = luma.shape[-1]
    foreign = residual.detach().mT.roll((size // 3, size // 5), (2, 3))
    added = torch.where(fate < negatives / 2, foreign, residual)
    added = torch.where((fate >= negatives / 2) & (fate < negatives), 0.0, added)
    return MarkedStills(luma, added, bits, (fate.view(-1) >= negatives).float())


def new_clips(
    recipe: Recipe, pictures: Pictures, place: Place, side: int
) -> tuple[MarkedClips, Clips]:
    """Clips of the stage's number, to be encoded at `side`; a share of them stays unmarked."""
    count, device = place.stage.clips, pictures.device
    source = pictures.clips(count, recipe.frames, side)
    carried = (torch.rand(count, device=device) >= place.stage.negatives).float()
    marked = MarkedClips(
        source.seen,
        _bits(count, recipe.shape.bits, device),
        _strength(place, count, device),
        carried,
    )
    return marked, source


def seen_by_extractor(
    stills: MarkedStills,
    clips: MarkedClips | None,
    embedder: Embedder,
    keyframe: int,
    draw: AttackDraw,
    place: Place,
    rng: np.random.Generator,
) -> Batch:
    """Attack stills and clips; clips that an encoder has recoded meet little else."""
    stage = place.stage
    marked, bits, carried = [stills.luma + stills.residual], [stills.bits], [stills.carried]
    count = len(stills.luma)
    draws = [draw.draw(count, stage.attacks, stage.second)]
    if clips is not None:
        frames = clips.seen.shape[1]
        residual, _ = mark_frames(embedder, clips, keyframe)
        shown = clips.seen.reshape(residual.shape) + residual
        rows = draw.draw(len(residual), stage.attacks, 0.0)
        if clips.change is not None:
            shown = shown + clips.change.reshape(residual.shape)
            rows &= torch.rand(len(rows), 1, device=rows.device) < _AFTER_CODEC * stage.second
        marked.append(shown)
        bits.append(clips.bits.repeat_interleave(frames, 0))
        carried.append(clips.carried.repeat_interleave(frames))
        draws.append(rows)
    drawn = torch.cat(draws)
    strength = place.between(stage.strength)
    luma = attack(to_pixels(torch.cat(marked)), drawn, stage.attacks, strength, rng)
    return Batch(luma, torch.cat(bits), torch.cat(carried), drawn, count)
