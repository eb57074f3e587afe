"""Frames through an engine as the gate runs them: in every bucket, and comparable at all.

It knows engines by their protocol alone, and judges nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engines.precision.frameset import FrameSet
from reelsight.engine.protocol import Engine
from reelsight.errors import ConfigError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["embed_frames", "in_every_bucket", "require_comparable", "require_frames", "shares_of"]

Floats = npt.NDArray[np.float32]


def embed_frames(engine: Engine, pixels: npt.NDArray[np.uint8]) -> Floats:
    """Run frames in the engine's largest bucket, padding the last batch.

    Args:
        engine: Any engine.
        pixels: uint8 [n, S, S, 3].

    Returns:
        float32 [n, dim].
    """
    return _embed(engine, pixels, engine.spec.buckets[-1])


def in_every_bucket(engine: Engine, pixels: npt.NDArray[np.uint8]) -> Floats:
    """Rows of frames of which every bucket runs its share, float32 [n, dim]."""
    rows = np.empty((len(pixels), engine.spec.dim), dtype=np.float32)
    for bucket, share in shares_of(engine.spec, len(pixels)).items():
        rows[share] = _embed(engine, pixels[share], bucket)
    return rows


def shares_of(spec: EngineSpec, frames: int) -> dict[int, npt.NDArray[np.intp]]:
    """Which frames each bucket runs: every bucket can be a program of its own.

    The shares are equal and interleaved, so that each is a sample of all clips.
    """
    step = len(spec.buckets)
    return {bucket: np.arange(at, frames, step) for at, bucket in enumerate(spec.buckets)}


def require_comparable(reference: EngineSpec, candidate: EngineSpec) -> None:
    """Refuse engines that are not of one model.

    Raises:
        ConfigError: `gate.other_model`.
    """
    if (reference.model_hash, reference.dim, reference.geometry) != (
        candidate.model_hash,
        candidate.dim,
        candidate.geometry,
    ):
        raise ConfigError(
            f"{candidate.model} ({candidate.model_hash[:12]}) cannot be judged against "
            f"{reference.model} ({reference.model_hash[:12]})",
            code="gate.other_model",
            hint="Compare an engine with the FP32 master of its own model.",
        )


def require_frames(frames: FrameSet, spec: EngineSpec, least: int) -> None:
    """Refuse frames that say nothing of an engine.

    Raises:
        ConfigError: `gate.too_few_frames`, `gate.bad_frames`.
    """
    if len(frames) < least:
        raise ConfigError(
            f"the gate needs {least} frames, got {len(frames)}",
            code="gate.too_few_frames",
            hint="Give more clips with --frames, or sample them more densely.",
        )
    if frames.size != spec.geometry.size:
        raise ConfigError(
            f"the frames are of {frames.size} pixels, {spec.model} takes {spec.geometry.size}",
            code="gate.bad_frames",
            hint="Collect the frames for this model.",
        )


def _embed(engine: Engine, pixels: npt.NDArray[np.uint8], bucket: int) -> Floats:
    rows = np.empty((len(pixels), engine.spec.dim), dtype=np.float32)
    for at in range(0, len(pixels), bucket):
        part = pixels[at : at + bucket]
        batch = np.zeros((bucket, *part.shape[1:]), dtype=np.uint8)
        batch[: len(part)] = part
        rows[at : at + len(part)] = engine.run(batch)[: len(part)]
    return rows
