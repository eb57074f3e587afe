"""What engines of towers and extractors all do: name their spec, refuse wrong batches, warm up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelsight.errors import EngineError, EngineInputError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["ImageEngine", "check_batch"]


def check_batch(spec: EngineSpec, pixels: npt.NDArray[np.uint8]) -> None:
    """Refuse a batch that an engine's `run` does not take.

    Compiled engines check nothing by themselves: a wrong shape would be read out of bounds.

    Raises:
        EngineInputError: Not uint8 [n, S, S, 3], or not C-contiguous.
        EngineError: `engine.bad_batch`: n is not one of the spec's buckets.
    """
    size = spec.geometry.size
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
        raise EngineInputError(
            f"frames are {pixels.dtype} {list(pixels.shape)}, not uint8 [n, {size}, {size}, 3]"
        )
    if not pixels.flags.c_contiguous:
        raise EngineInputError("frames are not C-contiguous")
    if len(pixels) not in spec.buckets:
        raise EngineError(
            f"batch of {len(pixels)} is not one of the buckets {spec.buckets}",
            code="engine.bad_batch",
        )


class ImageEngine:
    """The part of an Engine that is the same on every device.

    Args:
        spec: What the engine is.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    @property
    def capabilities(self) -> frozenset[str]:
        # Geometry `active` is of extractors alone.
        reads = self._spec.geometry.mode == "active"
        return frozenset({"read_mark" if reads else "embed_image"})

    def warmup(self) -> None:
        self._run_buckets()

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        raise NotImplementedError

    def _run_buckets(self, *, times: int = 1) -> None:
        """Run black frames through every bucket."""
        size = self._spec.geometry.size
        for bucket in self._spec.buckets:
            for _ in range(times):
                self.run(np.zeros((bucket, size, size, 3), dtype=np.uint8))
