"""A GPU through torch, for engines that torch runs: it needs no other CUDA library.

torch keeps the primary context current in every thread, so `current` only names the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from engines.cuda.device import (
    CudaEvent,
    CudaGraph,
    CudaStream,
    DeviceMemory,
    PinnedMemory,
)
from reelsight.errors import EngineError

__all__ = ["TorchDevice", "on_stream", "out_of_memory", "tensor_of", "torch_errors"]


class TorchDevice:
    """One GPU.

    Args:
        ordinal: Which of those that torch sees.
    """

    def __init__(self, ordinal: int = 0) -> None:
        self._ordinal = ordinal
        # Graphs of one engine run one after the other and share their scratch memory.
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._closed = False

    @property
    def name(self) -> str:
        return str(torch.cuda.get_device_name(self._ordinal))

    @property
    def sm(self) -> str:
        return "{}.{}".format(*torch.cuda.get_device_capability(self._ordinal))

    @property
    def captures(self) -> bool:
        return True

    @contextmanager
    def current(self) -> Iterator[None]:
        if self._closed:
            raise EngineError("the GPU was closed", code="engine.closed")
        with torch.cuda.device(self._ordinal):
            yield

    def pinned(self, nbytes: int) -> PinnedMemory:
        with torch_errors():
            return _Pinned(nbytes)

    def memory(self, nbytes: int) -> DeviceMemory:
        with torch_errors():
            return _Memory(nbytes)

    def stream(self) -> CudaStream:
        with torch_errors():
            return _Stream()

    def event(self) -> CudaEvent:
        with torch_errors():
            return _Event()

    def copy_in(self, to: DeviceMemory, source: PinnedMemory, n: int, stream: CudaStream) -> None:
        with torch_errors(), on_stream(stream):
            tensor_of(to)[:n].copy_(tensor_of(source)[:n], non_blocking=True)

    def copy_out(self, to: PinnedMemory, source: DeviceMemory, n: int, stream: CudaStream) -> None:
        with torch_errors(), on_stream(stream):
            tensor_of(to)[:n].copy_(tensor_of(source)[:n], non_blocking=True)

    def memory_info(self) -> tuple[int, int]:
        with torch_errors():
            free, total = torch.cuda.mem_get_info(self._ordinal)
            return int(free), int(total)

    def capture(self, stream: CudaStream, enqueue: Callable[[], None]) -> CudaGraph:
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on allocating: only this thread's calls can break the capture.
        recording = torch.cuda.graph(
            graph, pool=self._pool, stream=_raw(stream), capture_error_mode="thread_local"
        )
        with torch_errors(), recording:
            enqueue()
        return _Graph(graph)

    def close(self) -> None:
        self._closed = True
        torch.cuda.empty_cache()


def tensor_of(memory: DeviceMemory | PinnedMemory) -> torch.Tensor:
    """The uint8 [nbytes] tensor that memory of a TorchDevice is."""
    return cast(_Tensor, memory).tensor


@contextmanager
def on_stream(stream: CudaStream) -> Iterator[None]:
    """Let torch enqueue into a stream of a TorchDevice."""
    with torch.cuda.stream(_raw(stream)):
        yield


@contextmanager
def torch_errors() -> Iterator[None]:
    """Turn what torch says of a device into an EngineError; `engine.out_of_memory` for memory."""
    try:
        yield
    except RuntimeError as error:
        raise (out_of_memory(error) or EngineError(f"the device failed: {error}")) from error


def out_of_memory(error: BaseException) -> EngineError | None:
    """What to raise where memory ran out, given back what torch kept; None for another error."""
    if not _is_memory(error):
        return None
    torch.cuda.empty_cache()
    return EngineError(
        f"out of GPU or pinned memory: {error}",
        code="engine.out_of_memory",
        hint="Free the GPU of other work, or use smaller buckets.",
    )


def _is_memory(error: BaseException | None) -> bool:
    """Whether memory ran out at the root: the end of a failed capture fails in its own words."""
    while error is not None:
        # For page-locked memory it is a plain RuntimeError.
        if isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _raw(stream: CudaStream) -> Any:
    return cast(_Stream, stream).stream


class _Tensor:
    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor: torch.Tensor | None = tensor

    @property
    def tensor(self) -> torch.Tensor:
        if self._tensor is None:
            raise EngineError("the memory was freed", code="engine.closed")
        return self._tensor

    def free(self) -> None:
        self._tensor = None


class _Pinned(_Tensor):
    def __init__(self, nbytes: int) -> None:
        super().__init__(torch.empty(nbytes, dtype=torch.uint8, pin_memory=True))

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        array: npt.NDArray[np.uint8] = self.tensor.numpy()
        return array


class _Memory(_Tensor):
    def __init__(self, nbytes: int) -> None:
        super().__init__(torch.empty(nbytes, dtype=torch.uint8, device="cuda"))
        self.nbytes = nbytes

    @property
    def address(self) -> int:
        return int(self.tensor.data_ptr())


class _Stream:
    def __init__(self) -> None:
        self.stream: Any = torch.cuda.Stream()

    @property
    def handle(self) -> int:
        return int(self.stream.cuda_stream)

    def wait_for(self, event: CudaEvent) -> None:
        with torch_errors():
            self.stream.wait_event(cast(_Event, event).event)

    def synchronize(self) -> None:
        with torch_errors():
            self.stream.synchronize()

    def free(self) -> None:
        """Streams come from a pool that torch keeps."""


class _Event:
    def __init__(self) -> None:
        # A waiting thread sleeps: the cores are the decoders'.
        self.event: Any = torch.cuda.Event(blocking=True)

    def record(self, stream: CudaStream) -> None:
        with torch_errors():
            self.event.record(_raw(stream))

    def reached(self) -> bool:
        with torch_errors():
            return bool(self.event.query())

    def wait(self) -> None:
        with torch_errors():
            self.event.synchronize()

    def free(self) -> None:
        """It goes with the last reference to it."""


class _Graph:
    def __init__(self, graph: Any) -> None:
        self._graph: Any = graph

    def launch(self, stream: CudaStream) -> None:
        if self._graph is None:
            raise EngineError("the graph was freed", code="engine.closed")
        with torch_errors(), on_stream(stream):
            self._graph.replay()

    def free(self) -> None:
        self._graph = None
