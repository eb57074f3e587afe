"""Orientation: how a decoded picture turns into an upright one.

Works on arrays that are already small. It knows the display matrix and nothing else of containers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.buffer import Buffer

__all__ = ["UPRIGHT", "Orientation", "display_matrix", "orientation_of"]


@dataclass(frozen=True, slots=True)
class Orientation:
    """A turn by quarter circles, with or without a mirror.

    Attributes:
        transpose: Swap rows and columns, before the flips.
        flip_rows: Turn upside down.
        flip_columns: Mirror left and right.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @property
    def degrees(self) -> int:
        """Clockwise turn, 0, 90, 180 or 270 degrees; a mirror counts as none."""
        if self.transpose:
            return 270 if self.flip_rows and not self.flip_columns else 90
        return 180 if self.flip_rows and self.flip_columns else 0

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The upright view of uint8 [H, W, 3]: [H, W, 3] or [W, H, 3], not copied."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


UPRIGHT = Orientation()


def orientation_of(frame: VideoFrame) -> Orientation:
    """Orientation by the frame's display matrix, rounded to the nearest quarter circle.

    The matrix maps (x, y) to (a x + c y, b x + d y) with y downwards (ISO/IEC 14496-12, 8.3.2.3).
    """
    matrix = display_matrix(frame)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = matrix[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, flip_rows=d < 0, flip_columns=a < 0)
    return Orientation(True, flip_rows=b < 0, flip_columns=c < 0)


def display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    """The nine numbers of a frame's display matrix, as FFmpeg orders them; None without one."""
    try:
        side = cast("Mapping[str, Buffer]", frame.side_data)["DISPLAYMATRIX"]
    except (KeyError, ValueError):
        # PyAV raises ValueError when a frame carries a kind of side data that it has no name for.
        return None
    return struct.unpack("=9i", bytes(side)[:36])
