"""What an engine is to everything that is not an engine.

An Engine turns pixels into rows on one device: embeddings, or what was read of a mark. It is owned
by one thread at a time: EngineHost is what makes it shareable. This module knows no runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from reelsight.nouns.engine_spec import EngineSpec

__all__ = [
    "DeviceFramesEngine",
    "DevicePixels",
    "Engine",
    "HostObserver",
    "MarkWriter",
    "PipelinedEngine",
    "TextTower",
    "Ticket",
]


@runtime_checkable
class Engine(Protocol):
    """One model at one precision, ready on one device."""

    @property
    def spec(self) -> EngineSpec:
        """The recipe; its hash is stamped on every row."""

    @property
    def capabilities(self) -> frozenset[str]:
        """What its rows are: {"embed_image"} or {"read_mark"}."""

    def warmup(self) -> None:
        """Run every bucket once, so that the first real batch costs what the others do."""

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Run a batch whose size is one of the spec's buckets.

        Args:
            pixels: uint8 [B, S, S, 3], C-contiguous, B in spec.buckets, S = spec.geometry.size;
                RGB, or as geometry `active` gives it: luma in all three channels.

        Returns:
            float32 [B, D]. Of `embed_image` L2-normalised embeddings; of `read_mark` the logits of
            D - 1 bits, above 0 where a bit is 1, and last the logit of the mark's presence.

        Raises:
            EngineError: The device failed.
        """

    def close(self) -> None:
        """Free the device; idempotent."""


class Ticket(Protocol):
    """A batch that a device works on."""

    def result(self) -> npt.NDArray[np.float32]:
        """Wait for the batch and return its rows; called exactly once, by the submitting thread.

        Returns:
            float32 [B, D], as of `run`; the caller's own copy.

        Raises:
            EngineError: The device failed.
        """


@runtime_checkable
class PipelinedEngine(Engine, Protocol):
    """An Engine that copies the next batch in while the last one runs."""

    @property
    def slots(self) -> int:
        """Batches that can be in flight at a time, 2 or more."""

    def submit(self, pixels: npt.NDArray[np.uint8]) -> Ticket:
        """Start a batch; `run` starts one and waits for it.

        Args:
            pixels: As for run. Copied before this returns: the caller may overwrite it at once.

        Raises:
            EngineError: The device failed, or more than `slots` tickets are unread.
        """


class HostObserver(Protocol):
    """Hears from a host's thread what it does. It neither raises nor waits."""

    def waited(self, seconds: float) -> None:
        """A request's first frames were taken after so long in the queue."""

    def ran(self, frames: int, bucket: int, seconds: float) -> None:
        """A batch of `bucket` rows, `frames` of them frames, kept the engine busy for so long."""

    def embedded(self, seconds: float) -> None:
        """A request's last row was there so long after the request: its wait and all its runs."""


class DevicePixels(Protocol):
    """Frames in a GPU's memory: a DLPack producer of uint8 [n, S, S, 3] RGB, C-contiguous."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, S, S, 3)."""

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        """A capsule; whoever reads it in `stream` reads what was written before.

        Args:
            stream: A CUstream, which is made to wait on the device, not on the host.
        """

    def __dlpack_device__(self) -> tuple[int, int]:
        """DLPack's kind of device, 2 for CUDA, and its index."""


@runtime_checkable
class DeviceFramesEngine(PipelinedEngine, Protocol):
    """An Engine that takes frames where a decoder on the same GPU left them."""

    def submit_on_device(self, pixels: DevicePixels) -> Ticket:
        """Start a batch of which nothing crosses to the host but its rows.

        Args:
            pixels: 1 to as many frames as the largest bucket holds; what is lacking to a bucket is
                filled up on the device, and only their own rows come back. They are kept until the
                ticket is read, and may not be overwritten before.

        Raises:
            EngineInputError: Not uint8 [n, S, S, 3], not contiguous, or on another device.
            EngineError: As for submit; `engine.bad_batch` where no bucket holds them.
        """


class MarkWriter(Protocol):
    """Draws what carries a code in a picture; owned by one thread at a time.

    No Engine: it takes a code beside the picture and gives a picture back, and it runs beside an
    encoder, a picture at a time, where there is nothing to batch or to share.
    """

    @property
    def size(self) -> int:
        """Side of its pictures, pixels."""

    @property
    def bits(self) -> int:
        """Length of a code."""

    def residual(
        self, luma: npt.NDArray[np.uint8], bits: npt.NDArray[np.float32], strength_db: float
    ) -> npt.NDArray[np.float32]:
        """What to add to one picture.

        Args:
            luma: uint8 [S, S], full range, as geometry `active` gives it.
            bits: float32 [bits], 0 and 1.
            strength_db: PSNR of the residual, dB against 255.

        Returns:
            float32 [S, S], grey levels of full range.

        Raises:
            EngineError: It failed, or gave what is no residual.
        """

    def close(self) -> None:
        """Free it; idempotent."""


class TextTower(Protocol):
    """Embeds phrases into the space of one model's image embeddings; threads may share it."""

    @property
    def model_hash(self) -> str:
        """Hash of the model whose images these phrases can be compared with."""

    def embed_text(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        """Embed phrases: float32 [len(phrases), D], L2-normalised rows."""

    def count_tokens(self, phrases: Sequence[str]) -> list[int]:
        """Tokens of each phrase that the tower reads, its marks of start and end among them."""
