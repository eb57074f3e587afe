"""The pictures that marks are trained on: on the device, cropped, lit and moved anew every step.

A tenth of the photographs, and drawn pictures of seeds of their own, are held out for evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.marks.geometry import affine, spread, warp
from training.marks.pack import unpack
from training.marks.recipe import Recipe
from training.marks.resampling import resized
from training.marks.synthetic import Luma, draw_pictures

__all__ = ["Clips", "Pictures", "load_pictures"]

_DRAWN_SEED = {"train": 1101, "held": 2202}
_CHUNK = 64


@dataclass
class Clips:
    """Clips before they are marked.

    Attributes:
        wide: Float32 [clips, frames, side, side] at the side that is encoded, 0 to 255.
        seen: Float32 [clips, frames, size, size]: the same, as both networks see it.
    """

    wide: Tensor
    seen: Tensor


class Pictures:
    """One split on the device.

    Args:
        photos: Uint8 [n, side, side]; may be empty.
        drawn: Uint8 [m, side, side].
        share: Of drawn pictures in what is drawn; 1 where there is no photograph.
        size: Side that the networks see.
        device: Where.
    """

    def __init__(
        self, photos: Luma, drawn: Luma, share: float, size: int, device: torch.device
    ) -> None:
        self.store = torch.from_numpy(np.concatenate([photos, drawn])).to(device)[:, None]
        self.photos, self.size, self.device = len(photos), size, device
        self.share = share if len(photos) else 1.0

    def _pick(self, count: int) -> Tensor:
        """Float32 [count, 1, side, side], a quarter of them drawn."""
        total = len(self.store)
        from_photos = torch.rand(count, device=self.device) * self.photos
        from_drawn = self.photos + torch.rand(count, device=self.device) * (total - self.photos)
        is_drawn = torch.rand(count, device=self.device) < self.share
        rows = torch.where(is_drawn, from_drawn, from_photos).long().clamp(max=total - 1)
        return self.store[rows].float()

    def stills(self, count: int) -> Tensor:
        """Random stills, float32 [count, 1, size, size], 0 to 255."""
        device = self.device
        zoom_x, zoom_y, turn, x, y = self._views(count)
        mirror = torch.where(torch.rand(count, device=device) < 0.5, -1.0, 1.0)
        views = affine(zoom_x * mirror, zoom_y, turn, x, y)
        seen = [
            warp(self._pick(len(part)), part, self.size).round() for part in views.split(_CHUNK)
        ]
        return _lit(torch.cat(seen))

    def clips(self, count: int, frames: int, side: int) -> Clips:
        """Random clips: a camera that pans and zooms over a picture, or stands still.

        Args:
            count: Clips.
            frames: Of each.
            side: At which they will be encoded.
        """
        device = self.device
        zoom_x, zoom_y, turn, x, y = self._views(count)
        moving = (torch.rand(count, device=device) < 0.65).float()
        drift = [spread(count, device, -0.012, 0.012) * moving for _ in range(2)]
        growth = spread(count, device, -0.006, 0.006) * moving
        shots = []
        source = self._pick(count)
        for frame in range(frames):
            zoom = 1 + growth * frame
            at = (x + drift[0] * frame, y + drift[1] * frame)
            shots.append(warp(source, affine(zoom_x * zoom, zoom_y * zoom, turn, *at), side))
        wide = torch.stack(shots, 1).view(count, frames, side, side)
        wide = _lit(wide).round()
        seen = resized(wide.view(-1, 1, side, side), self.size)
        return Clips(wide, seen.view(count, frames, self.size, self.size))

    def _views(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        device = self.device
        zoom = spread(count, device, 0.6, 1.0)
        zoom_x = zoom * spread(count, device, 0.8, 1.0)
        zoom_y = zoom * spread(count, device, 0.8, 1.0)
        turn = spread(count, device, -0.05, 0.05)
        x = (1 - zoom_x) * spread(count, device, -1, 1)
        y = (1 - zoom_y) * spread(count, device, -1, 1)
        return zoom_x, zoom_y, turn, x, y


def _lit(luma: Tensor) -> Tensor:
    """Expose one in four darker, and vary the contrast of all a little."""
    count, device = len(luma), luma.device
    shape = (count, *(1,) * (luma.ndim - 1))
    gain = spread(count, device, 0.85, 1.1)
    night = torch.rand(count, device=device) < 0.25
    gain = torch.where(night, spread(count, device, 0.12, 0.7), gain).view(shape)
    gamma = torch.exp(spread(count, device, -0.25, 0.25)).view(shape)
    return (255 * torch.pow((luma / 255).clamp(1e-4, 1), gamma) * gain).clamp(0, 255)


def load_pictures(
    recipe: Recipe, data: Path | None, work: Path, device: torch.device
) -> dict[str, Pictures]:
    """Both splits, `train` and `held`.

    Args:
        recipe: Says how many are drawn.
        data: A pack of photographs; drawn pictures alone when None.
        work: Keeps the drawn ones for the next call.
        device: Where they will lie.
    """
    side = recipe.shape.size * 5 // 4
    photos = np.empty((0, side, side), np.uint8) if data is None else unpack(data)
    if photos.shape[1] != side:
        whole = torch.from_numpy(photos).float()[:, None]
        photos = resized(whole, side).round().clamp(0, 255).byte().numpy()[:, 0]
    order = np.random.default_rng(77).permutation(len(photos))
    held = len(photos) // 10
    rows = {"train": np.sort(order[held:]), "held": np.sort(order[:held])}
    counts = {"train": recipe.pictures, "held": max(8, recipe.pictures // 10)}
    splits = {}
    for name, count in counts.items():
        kept = work / f"drawn-{name}-{count}-{side}.npy"
        if not kept.exists():
            np.save(kept, draw_pictures(count, side, _DRAWN_SEED[name]))
        drawn = np.load(kept)
        splits[name] = Pictures(
            photos[rows[name]], drawn, recipe.procedural, recipe.shape.size, device
        )
    return splits
