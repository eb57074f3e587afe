"""Views: ways in which a suspect may show the marked picture, each tried by itself.

An extractor reads by place. A clip that was mirrored, or cut to its middle, is put back to where
its pixels were before it is read. Every view that is tried is counted in the p-value, so the list
is fixed before the suspect is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from reelsight.media.luma import Plane

__all__ = ["PLAIN", "SEARCH", "View", "seen_through"]


@dataclass(frozen=True, slots=True)
class View:
    """What a suspect is taken to show.

    Attributes:
        name: For people.
        mirrored: Left and right are swapped.
        wide: Width of the suspect's picture over that of the marked one: below 1 it shows the
            middle alone, above 1 the marked picture lies inside of it.
        high: The same of the height.
    """

    name: str
    mirrored: bool = False
    wide: float = 1.0
    high: float = 1.0


PLAIN = (View("as it is"), View("mirrored", mirrored=True))
"""What costs nothing but a bit of evidence."""

SEARCH = (
    *PLAIN,
    *(View(f"the middle {share} %", False, share / 100, share / 100) for share in (95, 90, 85, 80)),
    View("the middle 75 %", False, 0.75, 0.75),
    View("the middle 75 % of the width", False, 0.75, 1.0),
    View("the middle 56 % of the width", False, 0.5625, 1.0),
    View("inside of a border of 5 %", False, 1 / 0.9, 1 / 0.9),
)
"""Also cuts to the middle, such as 4:3 and 1:1 out of 16:9 (three and nine sixteenths), and one
border."""


def seen_through(view: View, luma: Plane) -> Plane:
    """Pictures as they lay in the marked one; what is not known continues the edge.

    Args:
        view: How the suspect shows them.
        luma: uint8 [n, S, S], squashed.

    Returns:
        uint8 [n, S, S].
    """
    if view.mirrored:
        luma = luma[:, :, ::-1]
    if view.wide == view.high == 1.0:
        return np.ascontiguousarray(luma)
    return np.stack([_placed(view, picture) for picture in luma])


def _placed(view: View, picture: Plane) -> Plane:
    size = len(picture)
    image = Image.fromarray(np.ascontiguousarray(picture))
    if view.wide > 1 or view.high > 1:
        across, down = (size - size / view.wide) / 2, (size - size / view.high) / 2
        box = (across, down, size - across, size - down)
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    wide, high = round(size * view.wide), round(size * view.high)
    small = np.asarray(image.resize((wide, high), Image.Resampling.BILINEAR))
    left, top = (size - wide) // 2, (size - high) // 2
    around = ((top, size - high - top), (left, size - wide - left))
    return np.pad(small, around, mode="edge")
