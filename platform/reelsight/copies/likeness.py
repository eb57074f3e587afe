"""Likeness: how near marked pictures are to those they were made of, in PSNR and SSIM.

SSIM is that of FFmpeg's filter of the name: windows of 8 x 8 pixels, four apart, after Wang et al.
(Image Quality Assessment: From Error Visibility to Structural Similarity, 2004).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["Likeness", "ssim"]

Floats = npt.NDArray[np.float64]
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
# What is told of a film in which nothing changed: numbers in a ledger are finite.
_MOST_DB = 100.0


class Likeness:
    """Adds up over pictures."""

    def __init__(self) -> None:
        self._error, self._samples = 0.0, 0
        self._ssim, self._pictures = 0.0, 0

    def add(
        self, before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], level: float
    ) -> None:
        """Compare two pictures by their squared error.

        Args:
            before: float32 [H, W], luma as it is coded.
            after: The same after marking.
            level: One grey level of full range at 8 bits, in the units of both.
        """
        difference = (after - before).ravel()
        self._error += float(np.dot(difference, difference)) / level**2
        self._samples += difference.size

    def add_structure(
        self, before: npt.NDArray[np.float32], after: npt.NDArray[np.float32], level: float
    ) -> None:
        """Compare two pictures by their structure; what is smaller than 8 x 8 has none."""
        if min(before.shape) >= 8:
            self._ssim += ssim(before / np.float32(level), after / np.float32(level))
            self._pictures += 1

    @property
    def psnr_db(self) -> float:
        """Over all pixels of all pictures, against 255; 100 where nothing changed."""
        if not self._error:
            return _MOST_DB
        return min(_MOST_DB, 10 * math.log10(255**2 * self._samples / self._error))

    @property
    def ssim(self) -> float:
        """Mean over the pictures that were compared so; 1 without any."""
        return self._ssim / self._pictures if self._pictures else 1.0


def ssim(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Mean structural similarity of two pictures [H, W] of 0 to 255, both sides at least 8."""
    a, b = (np.asarray(each, np.float64) for each in (first, second))
    sums = [_windows(x) / 64 for x in (a, b, a * a + b * b, a * b)]
    mean_a, mean_b, squares, products = sums
    # Sample variances, as the filter has them.
    spread = (squares - mean_a**2 - mean_b**2) * (64 / 63)
    shared = (products - mean_a * mean_b) * (64 / 63)
    alike = (2 * mean_a * mean_b + _C1) * (2 * shared + _C2)
    most = (mean_a**2 + mean_b**2 + _C1) * (spread + _C2)
    return float((alike / most).mean())


def _windows(x: Floats) -> Floats:
    """Sums over windows of 8 x 8, four apart; what is left at the edges is not looked at."""
    high, wide = (side // 4 for side in x.shape)
    blocks = x[: 4 * high, : 4 * wide].reshape(high, 4, wide, 4).sum(axis=(1, 3))
    pairs = blocks[:-1] + blocks[1:]
    return np.asarray(pairs[:, :-1] + pairs[:, 1:])
