"""What every contender can be asked, and who there is.

A contender lives in a process of its own and is asked by `worker`. Nothing heavy is imported here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.engines.files import ModelFiles
from benchmarks.engines.towers import ModelCase

__all__ = ["KINDS", "REFERENCE", "Contender", "contender_named", "contenders_on"]

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]
# What embeddings and memory are compared with.
REFERENCE = "eager-fp32"
KINDS = ("eager", "compile", "transformers", "ort", "engine")
_PEERS = {
    "cuda": (REFERENCE, "eager-fp16", "compile-fp16", "transformers-fp16", "ort-fp16"),
    "cpu": (REFERENCE, "ort-fp32"),
}


class Contender(Protocol):
    """One way of running one tower on one device."""

    def load(self) -> None:
        """Everything that needs no device; touches none, so that memory can be told apart."""

    def place(self, batches: tuple[int, ...]) -> None:
        """Go to the device, ready for these batches alone; what was there before is let go."""

    def warm(self, batch: int) -> None:
        """Run a batch until nothing about it happens for the first time."""

    def throughput(self, batch: int, seconds: float) -> tuple[int, float]:
        """Batches back to back on input that is on the device: how many, in how many seconds."""

    def run(self, frames: Pixels) -> Embeddings:
        """From uint8 [n, size, size, 3] in host memory to float32 [n, dim] there, unit rows."""

    def pipelined(self, batch: int, seconds: float) -> tuple[int, float] | None:
        """As throughput, from host memory with several batches in flight; None: it has no such."""

    def reserved_mib(self) -> float | None:
        """Most that torch's allocator reserved; None where torch allocates nothing."""

    def profile(self, batch: int) -> list[dict[str, Any]] | None:
        """Where the time of a batch goes, by kernel; None for contenders that are not ours."""


def contenders_on(device: str, precisions: tuple[str, ...]) -> tuple[str, ...]:
    """Every contender there is on `cuda` or `cpu`, engines of these precisions last."""
    return (*_PEERS[device], *(f"engine-{p}" for p in precisions))


def contender_named(name: str, case: ModelCase, root: Path, device: str, threads: int) -> Contender:
    """Make a contender.

    Args:
        name: `eager-`, `compile-`, `transformers-`, `ort-` or `engine-` and a precision.
        case: Its model.
        root: Directory of the model's files.
        device: `cuda` or `cpu`.
        threads: CPU threads that it may use.

    Raises:
        SystemExit: No such contender.
    """
    kind, _, precision = name.partition("-")
    files = ModelFiles(root)
    match kind:
        case "engine":
            from benchmarks.engines.ours import OurEngine

            return OurEngine(files, precision, threads)
        case "ort":
            from benchmarks.engines.ort_peer import OrtPeer

            return OrtPeer(files, precision, device, threads)
        case "eager" | "compile" | "transformers":
            from benchmarks.engines.torch_peers import TorchPeer

            return TorchPeer(kind, case, precision, device, threads)
    raise SystemExit(f"no contender {name!r}")
