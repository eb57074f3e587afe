"""The picture under construction, and the few drawing moves that every scene needs.

A canvas holds one RGB picture and remembers which regions already carry an overlay, so that no
overlay is ever painted over another and the known truth stays true. It knows no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

Pixels = npt.NDArray[np.uint8]
"""RGB picture, uint8 [H, W, 3]."""
Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; right and bottom are exclusive."""
Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

__all__ = ["Box", "Canvas", "Colour", "Pixels", "bright", "cover", "dark", "smooth_noise", "vivid"]


@dataclass
class Canvas:
    """One picture being composed.

    Attributes:
        image: The RGB picture.
        extras: Other pictures that layouts may show, uint8 [H, W, 3] each.
        taken: Regions that carry an overlay already.
    """

    image: Image.Image
    extras: Sequence[Pixels] = ()
    taken: list[Box] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.image.width

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.image.height

    @property
    def short(self) -> int:
        """The shorter side in pixels; overlays are sized by it."""
        return min(self.image.size)

    def pen(self) -> ImageDraw.ImageDraw:
        """A drawing pen on the picture."""
        return ImageDraw.Draw(self.image)

    def blend_pen(self) -> ImageDraw.ImageDraw:
        """A pen whose colours take a fourth component, the opacity (0 to 255)."""
        return ImageDraw.Draw(self.image, "RGBA")

    def claim(self, box: Box, margin: int = 2) -> bool:
        """Take a region for one overlay.

        Returns:
            False, and nothing is taken, if another overlay is there already.
        """
        for other in self.taken:
            if (
                box[0] - margin < other[2]
                and other[0] - margin < box[2]
                and box[1] - margin < other[3]
                and other[1] - margin < box[3]
            ):
                return False
        self.taken.append(box)
        return True

    def free_box(
        self, rng: np.random.Generator, width: int, height: int, *, corner: bool = False
    ) -> Box | None:
        """Find and take a free region of the given size in pixels.

        Args:
            rng: Source of the position.
            width: Width of the region.
            height: Height of the region.
            corner: Keep to the four corners.
        """
        room_x, room_y = self.width - width, self.height - height
        if room_x < 0 or room_y < 0:
            return None
        spots = rng.random((8, 2))
        if corner:
            spots = np.where(spots < 0.5, spots * 0.16, 1.0 - (1.0 - spots) * 0.16)
        for across, down in spots:
            left, top = round(across * room_x), round(down * room_y)
            box = (left, top, left + width, top + height)
            if self.claim(box):
                return box
        return None


def cover(pixels: Pixels, width: int, height: int) -> Image.Image:
    """Scale a picture to fill width x height, cropping what is left over at the centre."""
    image = Image.fromarray(pixels)
    scale = max(width / image.width, height / image.height)
    crop_w, crop_h = width / scale, height / scale
    left, top = max(0.0, (image.width - crop_w) / 2), max(0.0, (image.height - crop_h) / 2)
    right, bottom = min(image.width, left + crop_w), min(image.height, top + crop_h)
    return image.resize((width, height), Image.Resampling.BILINEAR, box=(left, top, right, bottom))


def smooth_noise(
    rng: np.random.Generator, width: int, height: int, cells: int, octaves: int = 3
) -> npt.NDArray[np.float32]:
    """Fractal value noise, float32 [height, width] in 0 to 1.

    Args:
        rng: Source of the noise.
        width: Width in pixels.
        height: Height in pixels.
        cells: Cells across the shorter side in the coarsest octave.
        octaves: Each octave doubles the cells and halves the weight.
    """
    total = np.zeros((height, width), np.float32)
    weight = 1.0
    short = min(width, height)
    for octave in range(octaves):
        across = max(2, round(cells * width / short)) * 2**octave
        down = max(2, round(cells * height / short)) * 2**octave
        grid = Image.fromarray(rng.random((down, across), dtype=np.float32))
        total += weight * np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))
        weight *= 0.5
    low, high = float(total.min()), float(total.max())
    scaled: npt.NDArray[np.float32] = (total - low) / max(high - low, 1e-6)
    return scaled


def vivid(rng: np.random.Generator) -> Colour:
    """A saturated colour."""
    hue, low, high = rng.uniform(0, 6), rng.uniform(0, 70), rng.uniform(190, 255)
    ramp = [abs(hue - 3) - 1, 2 - abs(hue - 2), 2 - abs(hue - 4)]
    red, green, blue = (round(low + (high - low) * min(1.0, max(0.0, part))) for part in ramp)
    return red, green, blue


def dark(rng: np.random.Generator, top: int = 60) -> Colour:
    """A colour with every component under `top`."""
    red, green, blue = rng.integers(0, top, 3)
    return int(red), int(green), int(blue)


def bright(rng: np.random.Generator, floor: int = 200) -> Colour:
    """A colour with every component from `floor` up."""
    red, green, blue = rng.integers(floor, 256, 3)
    return int(red), int(green), int(blue)
