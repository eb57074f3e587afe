"""Extractor outputs that no model was asked for: biased, correlated, heavy-tailed, sparse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reelsight.marks.policy import Marking
from reelsight.marks.pool import pool
from reelsight.nouns.mark import SoftBits

__all__ = ["FAMILIES", "Soft", "correlated_frames"]

Soft = npt.NDArray[np.float64]
_MARKING = Marking()


def correlated_frames(rng: np.random.Generator, frames: int, bits: int = 64) -> SoftBits:
    """An extractor on unmarked footage: biased by bit, slow in time, alike in neighbouring bits."""
    bias = 0.8 + 0.5 * rng.standard_normal(bits)
    slow = np.zeros((frames, bits))
    noise = rng.standard_normal((frames, bits))
    slow[0] = noise[0]
    for i in range(1, frames):
        slow[i] = 0.97 * slow[i - 1] + 0.24 * noise[i]
    kernel = np.array([0.25, 0.5, 0.25])
    slow = np.apply_along_axis(lambda row: np.convolve(row, kernel, mode="same"), 1, slow)
    return SoftBits(
        pts=np.arange(frames, dtype=np.float64) / 2,
        soft=(bias + slow).astype(np.float32),
        quality=rng.uniform(0.2, 1.0, frames).astype(np.float32),
        presence=np.full(frames, 0.1, dtype=np.float32),
    )


def _pooled(rng: np.random.Generator) -> Soft:
    return pool(correlated_frames(rng, 40), _MARKING).total


def _normal(rng: np.random.Generator) -> Soft:
    return rng.standard_normal(64)


def _biased(rng: np.random.Generator) -> Soft:
    return 0.8 + rng.standard_normal(64)


def _heavy(rng: np.random.Generator) -> Soft:
    return rng.standard_t(1.5, 64)


def _sparse(rng: np.random.Generator) -> Soft:
    return np.concatenate([5 * rng.standard_normal(12), 0.02 * rng.standard_normal(52)])


def _equal(rng: np.random.Generator) -> Soft:
    return np.where(rng.random(64) < 0.9, 1.0, -1.0)


def _geometric(rng: np.random.Generator) -> Soft:
    signs = np.where(rng.random(64) < 0.5, 1.0, -1.0)
    return np.asarray(0.7 ** np.arange(64) * signs, dtype=np.float64)


FAMILIES: dict[str, Callable[[np.random.Generator], Soft]] = {
    "normal": _normal,
    "biased, mean 0.8": _biased,
    "correlated frames, pooled": _pooled,
    "heavy tails": _heavy,
    "sparse": _sparse,
    "all of one size": _equal,
    "each bit 0.7 of the last": _geometric,
}
