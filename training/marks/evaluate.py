"""What a pair of networks reaches on held-out pictures: bits by attack and encoder, cost, presence.

Every call draws the same pictures, bits and attacks, and leaves the training's generators alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.marks.attacks import ATTACKS, attack
from training.marks.clip_line import MarkedClips, full_range, limited_range, mark_frames
from training.marks.codec_pool import CodecJob, CodecPool
from training.marks.embedder import Embedder
from training.marks.extractor import Extractor
from training.marks.losses import wrong_share
from training.marks.pictures import Pictures
from training.marks.quantising import to_pixels
from training.marks.recipe import Recipe
from training.marks.resampling import resized
from training.marks.visibility import psnr, ssim

__all__ = ["auc", "evaluate", "unmarked_logits"]

_SEED = 4242
_CODECS = (
    ("h264-23", CodecJob("h264", 23, "veryfast")),
    ("h264-28", CodecJob("h264", 28, "veryfast")),
    ("h264-34", CodecJob("h264", 34, "veryfast")),
    ("hevc-28", CodecJob("hevc", 28, "ultrafast")),
)
_CHUNK = 32
_CLIPS = 12


class _Reader:
    """Logits and presence, in chunks."""

    def __init__(self, extractor: Extractor) -> None:
        self._extractor = extractor

    def __call__(self, luma: Tensor) -> tuple[Tensor, Tensor]:
        parts = [self._extractor(part) for part in luma.split(_CHUNK)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def evaluate(
    recipe: Recipe,
    embedder: Embedder,
    extractor: Extractor,
    pictures: Pictures,
    pool: CodecPool,
    strength: float,
) -> dict[str, Any]:
    """Measure.

    Args:
        recipe: Sizes and counts.
        embedder: In evaluation mode.
        extractor: In evaluation mode.
        pictures: The held-out split.
        pool: Real encoders; must be idle.
        strength: PSNR at which to mark, dB.

    Returns:
        `stills` (frame bit accuracy by attack), `codecs` (frame and pooled, by encoder), `psnr`,
        `ssim`, `presence_auc` and `gates` (the names that a Gate may ask for).
    """
    device = pictures.device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(_SEED)
        read = _Reader(extractor)
        stills, cost, marks = _stills(recipe, embedder, read, pictures, strength)
        codecs, coded_marks = _codecs(recipe, embedder, read, pictures, pool, strength)
        nothing = read(to_pixels(pictures.stills(recipe.held)))[1]
    gates = dict(stills)
    gates["clean"] = gates.pop("identity")
    for name, row in codecs.items():
        gates[name], gates[f"{name} pooled"] = row["frame"], row["pooled"]
    present = torch.cat([marks, coded_marks])
    return {
        "strength_db": strength,
        "stills": stills,
        "codecs": codecs,
        **cost,
        "presence_auc": round(auc(present, nothing), 5),
        "gates": gates,
    }


def _stills(
    recipe: Recipe, embedder: Embedder, read: _Reader, pictures: Pictures, strength: float
) -> tuple[dict[str, float], dict[str, float], Tensor]:
    device = pictures.device
    luma = torch.cat(
        [pictures.stills(_CHUNK // 2) for _ in range(max(1, recipe.held * 2 // _CHUNK))]
    )
    bits = torch.randint(0, 2, (len(luma), recipe.shape.bits), device=device).float()
    target = torch.full((_CHUNK,), strength, device=device)
    residual = torch.cat(
        [
            embedder(part, some, target[: len(part)])
            for part, some in zip(luma.split(_CHUNK), bits.split(_CHUNK), strict=True)
        ]
    )
    marked = to_pixels(luma + residual)
    accuracy = {}
    presence = torch.empty(0, device=device)
    for index, name in enumerate(ATTACKS):
        draws = torch.zeros((_CHUNK, len(ATTACKS)), dtype=torch.bool, device=device)
        draws[:, index] = True
        rng = np.random.default_rng([_SEED, index])
        attacked = torch.cat(
            [attack(p, draws[: len(p)], (name,), 1.0, rng) for p in marked.split(_CHUNK)]
        )
        logits, seen = read(attacked)
        accuracy[name] = round(1 - float(wrong_share(logits, bits).mean()), 5)
        presence = seen if name == "identity" else presence
    whole = to_pixels(luma)
    cost = {
        "psnr": round(float(psnr(whole, marked).mean()), 3),
        "ssim": round(float(ssim(whole, marked).mean()), 5),
    }
    return accuracy, cost, presence


def _codecs(
    recipe: Recipe,
    embedder: Embedder,
    read: _Reader,
    pictures: Pictures,
    pool: CodecPool,
    strength: float,
) -> tuple[dict[str, dict[str, float]], Tensor]:
    device, size = pictures.device, recipe.shape.size
    count = min(_CLIPS, pool.clips)
    source = pictures.clips(count, recipe.frames, size)
    clips = MarkedClips(
        source.seen,
        torch.randint(0, 2, (count, recipe.shape.bits), device=device).float(),
        torch.full((count,), strength, device=device),
        torch.ones(count, device=device),
    )
    residual, _ = mark_frames(embedder, clips, recipe.keyframe)
    marked = source.wide.view(-1, 1, size, size) + residual
    planes = limited_range(marked).view(count, recipe.frames, size, size).cpu().numpy()
    frame_bits = clips.bits.repeat_interleave(recipe.frames, 0)
    results, presence = {}, torch.empty(0, device=device)
    for name, job in _CODECS:
        pool.submit(planes, [job] * count)
        decoded = torch.from_numpy(pool.collect()).to(device).view(-1, 1, size, size)
        logits, seen = read(to_pixels(resized(full_range(decoded), size)))
        pooled = logits.view(count, recipe.frames, -1).mean(1)
        results[name] = {
            "frame": round(1 - float(wrong_share(logits, frame_bits).mean()), 5),
            "pooled": round(1 - float(wrong_share(pooled, clips.bits).mean()), 5),
        }
        presence = seen if name == "h264-28" else presence
    return results, presence


def auc(positive: Tensor, negative: Tensor) -> float:
    """Chance that a random positive scores above a random negative; ties count half."""
    above = (positive[:, None] > negative[None]).float()
    level = (positive[:, None] == negative[None]).float()
    return float((above + level / 2).mean())


def unmarked_logits(extractor: Extractor, pictures: Sequence[Pictures], count: int) -> Tensor:
    """Logits of pictures without a mark, [splits * count, bits]."""
    read = _Reader(extractor)
    with torch.no_grad():
        return torch.cat([read(to_pixels(split.stills(count)))[0] for split in pictures])
