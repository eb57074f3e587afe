"""A deterministic engine without a model, for tests, dry runs and sizing a cluster.

Its embedding is a fixed random projection of an 8x8 thumbnail, so equal pixels give equal
embeddings on every machine, and different pictures differ. It stands in for a device and for
nothing else.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reelsight.engine.image_engine import ImageEngine, check_batch
from reelsight.nouns.engine_spec import EngineSpec, Geometry

__all__ = ["FAKE_MODEL_HASH", "FakeEngine", "FakeTextTower", "fake_spec"]

_DIM = 32
_GRID = 8
FAKE_MODEL_HASH = hashlib.sha256(b"reelsight-fake-1").hexdigest()


def fake_spec(size: int = 64, buckets: tuple[int, ...] = (4, 8, 16, 32)) -> EngineSpec:
    """The spec of a fake engine that takes size x size pictures."""
    return EngineSpec(
        model="fake",
        model_hash=FAKE_MODEL_HASH,
        backend="fake",
        backend_version="1",
        precision="fp32",
        onnx_sha256="",
        geometry=Geometry(size, "squash"),
        dim=_DIM,
        buckets=buckets,
    )


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit.astype(np.float32)


class FakeEngine(ImageEngine):
    """An Engine that needs no files.

    Args:
        spec: As made by fake_spec.
        seconds_per_batch: Time to sleep in each run, to imitate a device.
    """

    def __init__(self, spec: EngineSpec | None = None, *, seconds_per_batch: float = 0.0) -> None:
        super().__init__(spec or fake_spec())
        self._seconds = seconds_per_batch
        features = _GRID * _GRID * 3 + 1
        rng = np.random.Generator(np.random.PCG64(20260101))
        self._projection = rng.standard_normal((features, _DIM))

    def warmup(self) -> None:
        """Nothing to warm."""

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        check_batch(self._spec, pixels)
        if self._seconds:
            time.sleep(self._seconds)
        side = pixels.shape[1] // _GRID
        cut = pixels[:, : side * _GRID, : side * _GRID].astype(np.float64) / 255.0
        thumb = cut.reshape(len(cut), _GRID, side, _GRID, side, 3).mean(axis=(2, 4))
        # One dot product a frame, so that a frame's bits do not depend on its batch neighbours.
        features = np.concatenate(
            [thumb.reshape(len(cut), -1), np.full((len(cut), 1), 0.1)], axis=1
        )
        return _unit(np.stack([row @ self._projection for row in features]))

    def close(self) -> None:
        """Nothing to free."""


class FakeTextTower:
    """A TextTower that hashes each phrase into a unit vector."""

    model_hash = FAKE_MODEL_HASH

    def embed_text(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        seeds = [int.from_bytes(hashlib.sha256(p.encode()).digest()[:8], "big") for p in phrases]
        rows = [np.random.Generator(np.random.PCG64(s)).standard_normal(_DIM) for s in seeds]
        return _unit(np.stack(rows))

    def count_tokens(self, phrases: Sequence[str]) -> list[int]:
        return [len(phrase.split()) for phrase in phrases]
