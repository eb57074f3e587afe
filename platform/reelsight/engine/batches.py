"""What every engine does with its batches: refuse wrong ones, and run each size once to warm up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelsight.engine.protocol import Engine
from reelsight.errors import EngineError, EngineInputError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["check_batch", "run_buckets"]


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


def run_buckets(engine: Engine, *, times: int = 1) -> None:
    """Run black frames through every bucket."""
    size = engine.spec.geometry.size
    for bucket in engine.spec.buckets:
        for _ in range(times):
            engine.run(np.zeros((bucket, size, size, 3), dtype=np.uint8))
