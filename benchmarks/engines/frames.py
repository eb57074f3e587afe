"""Frames to calibrate and to compare on: drawn from a seed, since the benchmark brings no footage.

Shapes and textures of every scale, half of them degraded as uploads are: noise alone would leave a
tower's embeddings all the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from engines.precision.frameset import FrameSet, degraded

__all__ = ["drawn_frames", "noise_frames"]

Frames = npt.NDArray[np.uint8]
_SHAPES = 6


def drawn_frames(n: int, size: int, seed: int) -> FrameSet:
    """Pictures, every second one degraded.

    Args:
        n: How many.
        size: Their side, pixels.
        seed: The same seed gives the same frames.

    Returns:
        uint8 [n, size, size, 3].
    """
    clean = np.stack([_draw(np.random.default_rng([seed, i]), size) for i in range(n)])
    worn = degraded(FrameSet(clean[1::2]), seed).frames if n > 1 else clean[:0]
    clean[1::2] = worn
    return FrameSet(clean)


def noise_frames(n: int, size: int) -> Frames:
    """Uniform noise, uint8 [n, size, size, 3]: for timing, which zeros would flatter."""
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def _draw(rng: np.random.Generator, size: int) -> Frames:
    canvas = np.zeros((size, size, 3))
    for cells in (2, 5, 13, 31):
        texture = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        scaled = Image.fromarray(texture).resize((size, size), Image.Resampling.BICUBIC)
        canvas += float(rng.random()) / cells * np.asarray(scaled)
    canvas *= 255 / max(1.0, float(canvas.max()))
    for _ in range(int(rng.integers(0, _SHAPES + 1))):
        top, left = rng.integers(0, size, 2)
        high, wide = rng.integers(1, size, 2)
        canvas[top : top + high, left : left + wide] = rng.integers(0, 256, 3)
    return canvas.astype(np.uint8)
