"""CudaDevice: what an engine needs of a GPU, so that the library behind it can be another one.

It knows memory, streams, events and captured graphs; no model, no batch and no TensorRT. Nothing
here creates a context: an implementation retains the device's primary context, which TensorRT and
torch use too, and makes it current for as long as a caller works with it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = [
    "CudaDevice",
    "CudaEvent",
    "CudaGraph",
    "CudaStream",
    "DeviceMemory",
    "PinnedMemory",
    "driver_problem",
]


class PinnedMemory(Protocol):
    """Page-locked host memory: the only kind that a copy engine reads while the GPU computes."""

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        """uint8 [nbytes]: the memory itself."""

    def free(self) -> None:
        """Give it back; idempotent. No copy may be under way."""


class DeviceMemory(Protocol):
    """Memory of the GPU."""

    @property
    def address(self) -> int:
        """Device pointer."""

    @property
    def nbytes(self) -> int:
        """Its size."""

    def free(self) -> None:
        """Give it back; idempotent. Nothing on the GPU may use it any more."""


class CudaEvent(Protocol):
    """A point in a stream."""

    def record(self, stream: CudaStream) -> None:
        """Put the event behind everything that the stream was given so far."""

    def reached(self) -> bool:
        """Whether the GPU has got there; does not block.

        Raises:
            EngineError: Something before the event failed.
        """

    def wait(self) -> None:
        """Wait on the host, asleep, until the GPU has reached the event.

        Raises:
            EngineError: Something before the event failed.
        """

    def free(self) -> None:
        """Give it back; idempotent. Nobody waits for it any more."""


class CudaStream(Protocol):
    """A queue of work that the GPU does in order."""

    @property
    def handle(self) -> int:
        """The CUstream, for libraries that enqueue by themselves."""

    def wait_for(self, event: CudaEvent) -> None:
        """Let later work of this stream begin after an event of another one; does not block."""

    def synchronize(self) -> None:
        """Wait on the host for everything in the stream.

        Raises:
            EngineError: Something in it failed.
        """

    def free(self) -> None:
        """Give it back; idempotent. It was synchronised before."""


class CudaGraph(Protocol):
    """Work that was recorded once and is launched whole."""

    def launch(self, stream: CudaStream) -> None:
        """Enqueue it."""

    def free(self) -> None:
        """Give it back; idempotent. It may not be running."""


class CudaDevice(Protocol):
    """One GPU, through its primary context.

    Every method but `current` is called inside `with device.current():`, by any thread. All raise
    EngineError with the driver's words; `engine.out_of_memory` where memory ran out.
    """

    @property
    def name(self) -> str:
        """Such as `NVIDIA H200`."""

    @property
    def sm(self) -> str:
        """Compute capability, such as `9.0`."""

    @property
    def captures(self) -> bool:
        """Whether `capture` records graphs here."""

    def current(self) -> AbstractContextManager[None]:
        """Make the primary context current in this thread; can be nested."""

    def pinned(self, nbytes: int) -> PinnedMemory:
        """Allocate page-locked host memory."""

    def memory(self, nbytes: int) -> DeviceMemory:
        """Allocate memory of the GPU."""

    def stream(self) -> CudaStream:
        """Create a stream that does not wait for the legacy default stream."""

    def event(self) -> CudaEvent:
        """Create an event without timing."""

    def copy_in(self, to: DeviceMemory, source: PinnedMemory, n: int, stream: CudaStream) -> None:
        """Enqueue a copy of the first n bytes to the GPU."""

    def copy_out(self, to: PinnedMemory, source: DeviceMemory, n: int, stream: CudaStream) -> None:
        """Enqueue a copy of the first n bytes to the host."""

    def memory_info(self) -> tuple[int, int]:
        """Free and total bytes of the GPU."""

    def capture(self, stream: CudaStream, enqueue: Callable[[], None]) -> CudaGraph:
        """Record what `enqueue` gives to the stream instead of doing it.

        Raises:
            EngineError: `engine.no_graphs` where `captures` is false or the work is not capturable.
        """

    def close(self) -> None:
        """Refuse further use; idempotent. Everything allocated was freed before."""


def driver_problem() -> str | None:
    """Why CUDA cannot be used in this process; None when a driver and a GPU answer.

    Asked through the driver alone, because NVIDIA's own libraries crash without one.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver is installed (libcuda.so.1 is not there)"
    status = driver.cuInit(0)
    if status != 0:
        return f"the NVIDIA driver does not start (cuInit returned {status})"
    count = ctypes.c_int(0)
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0 or count.value == 0:
        return "the NVIDIA driver finds no GPU"
    return None
