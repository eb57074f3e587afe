"""EngineSpec: the recipe, precision and profile of an engine; its hash is on every row."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

__all__ = ["DEFAULT_BUCKETS", "EngineSpec", "Geometry", "ResizeMode"]

ResizeMode = Literal["squash", "shortest", "active"]
# From two up: a picture that comes alone costs two, not four.
DEFAULT_BUCKETS = (2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a picture becomes an engine's input.

    Attributes:
        size: Side of the square input, pixels.
        mode: `squash` scales the whole picture to size x size; `shortest` scales the shorter side
            to size and keeps the central square; both use antialiased bicubic. `active`, for marks,
            squashes the luma of what is inside of black bars (see `reelsight.media.luma`) and
            gives it in all three channels.
    """

    size: int
    mode: ResizeMode = "squash"


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What an engine is, apart from the machine it happens to run on.

    Attributes:
        model: Name in the model catalogue, for people.
        model_hash: sha256 (hex) over the model's files; what a label bank is bound to.
        backend: Runtime, such as `onnxruntime-cpu` or `fake`.
        backend_version: Version of that runtime's library.
        precision: Name of the precision plan, such as `fp32` or `int8`.
        onnx_sha256: sha256 (hex) of the ONNX file that the engine was made of, which carries its
            precision and calibration; empty for an engine without one.
        geometry: What the engine takes.
        dim: Length of an embedding.
        buckets: Batch sizes the engine runs, ascending; smaller batches are padded up to one.
    """

    model: str
    model_hash: str
    backend: str
    backend_version: str
    precision: str
    onnx_sha256: str
    geometry: Geometry
    dim: int
    buckets: tuple[int, ...] = DEFAULT_BUCKETS

    def __post_init__(self) -> None:
        if (
            not self.buckets
            or list(self.buckets) != sorted(set(self.buckets))
            or self.buckets[0] < 1
        ):
            raise ValueError(f"buckets must be ascending and positive, got {self.buckets!r}")

    @property
    def hash(self) -> str:
        """First 16 hex digits of the sha256 of the canonical JSON of all fields."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def share_of(self, waiting: int) -> int:
        """How many of `waiting` frames to run at once.

        All of them where they fill their bucket by three quarters or more; else as many as fill
        the bucket below, because padding costs what frames cost.
        """
        bucket = self.bucket_for(waiting)
        below = max((b for b in self.buckets if b <= waiting), default=bucket)
        return min(waiting, bucket) if 4 * waiting >= 3 * bucket else min(waiting, below)

    def bucket_for(self, n: int) -> int:
        """Smallest bucket that holds n frames; the largest one when none does."""
        return next((b for b in self.buckets if b >= n), self.buckets[-1])
