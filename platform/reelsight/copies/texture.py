"""Texture: how much of a picture a mark can be in.

It is measured on the picture alone, never on what was read, so weighing by it costs no honesty.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelsight.media.luma import Plane

__all__ = ["SMALLEST_SIDE", "texture"]

SMALLEST_SIDE = 64
"""Pixels of the shorter side below which a picture cannot hold the band that marks are in."""

_BLOCKS = 16
# Grey levels of standard deviation in a block: below that an encoder leaves nothing of a mark.
_FLAT = 1.0


def texture(luma: Plane) -> npt.NDArray[np.float32]:
    """Share of each picture that is not flat, float32 [n], 0 to 1.

    Args:
        luma: uint8 [n, S, S], full range.
    """
    count, size = luma.shape[:2]
    step = max(size // _BLOCKS, 1)
    side = size // step * step
    blocks = luma[:, :side, :side].reshape(count, side // step, step, side // step, step)
    spread = blocks.astype(np.float32).std(axis=(2, 4))
    return np.asarray((spread > _FLAT).mean(axis=(1, 2)), np.float32)
