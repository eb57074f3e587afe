"""Settings of how a model runs: the engine of every door, and the second one of critical labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from reelsight.settings.group import Group

__all__ = ["CriticalEngine", "EngineSettings"]

Backend = Literal[
    "auto",
    "onnxruntime-cpu",
    "onnxruntime-cuda",
    "aotinductor",
    "tensorrt",
    "tensorrt-rtx",
    "fake",
]
Precision = Literal["auto", "fp32", "fp16", "fp16-norms32", "bf16", "int8", "int8-fp32", "fp8"]


class EngineSettings(Group):
    """How a model runs.

    Attributes:
        backend: `onnxruntime-cpu`; `auto` for the best that has a package here; the backend of a
            package by name; or `fake` (deterministic, needs no model).
        precision: `fp32`; another plan, which needs a package; or `auto` for the best package. The
            FP32 master on `onnxruntime-cpu` needs none.
        registry: Where packages are: a directory or `s3://bucket/prefix`; None for `engines` below
            data_dir.
        require_signature: Refuse packages that no trusted key signed. Without it whoever can write
            to the registry can run code here: set it wherever the registry is shared.
        trusted_keys: Public keys, `ed25519:BASE64`, of whoever may build packages.
        threads: Intra-op threads of one engine.
        buckets: Batch sizes, ascending; what is smaller is padded.
        max_queued_frames: Bound of an engine's queue.
    """

    backend: Backend = "onnxruntime-cpu"
    precision: Precision = "fp32"
    registry: str | None = None
    require_signature: bool = False
    trusted_keys: tuple[str, ...] = ()
    threads: int = Field(default=1, ge=1)
    buckets: tuple[int, ...] = (2, 4, 8, 16, 32)
    max_queued_frames: int = Field(default=2048, ge=1)

    @field_validator("buckets")
    @classmethod
    def _ascending(cls, buckets: tuple[int, ...]) -> tuple[int, ...]:
        if not buckets or buckets[0] < 1 or list(buckets) != sorted(set(buckets)):
            raise ValueError("buckets are positive and ascending")
        return buckets


class CriticalEngine(Group):
    """The second engine, which decides critical labels that are near their thresholds.

    Attributes:
        backend: As engine.backend.
        precision: As engine.precision; higher than that of the engine that serves.
    """

    backend: Backend = "onnxruntime-cpu"
    precision: Precision = "fp32"
