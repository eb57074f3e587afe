"""A GPU through pycuda.

`pycuda.autoinit` is never imported: it makes a second context, in which TensorRT's and torch's
pointers mean nothing. The primary context is retained instead, and pushed and popped by each
thread around its work. It is retained once a process and stays so, as torch and CUDA's own runtime
keep it: pycuda lets a context go only in the thread that retained it, and engines move to another.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from engines.cuda import graphs
from engines.cuda.device import (
    CudaEvent,
    CudaGraph,
    CudaStream,
    DeviceMemory,
    PinnedMemory,
    driver_problem,
)
from reelsight.errors import EngineError

__all__ = ["GPU_HINT", "PycudaDevice", "pycuda_problem"]

_T = TypeVar("_T")

GPU_HINT = (
    "Install the extra `gpu`: pip install 'reelsight[gpu]'. pycuda is built on your machine and "
    "needs CUDA's headers: export CUDA_ROOT=/usr/local/cuda first."
)


def pycuda_problem() -> str | None:
    """Why pycuda cannot be used in this process; None when it can."""
    problem = driver_problem()
    if problem is not None:
        return problem
    try:
        import pycuda.driver  # noqa: F401
    except ImportError as error:
        return f"pycuda does not import: {error}"
    return None


_contexts: dict[int, Any] = {}
_contexts_lock = threading.Lock()


def _primary_context(ordinal: int, device: Any) -> Any:
    with _contexts_lock:
        if not _contexts:
            # While CUDA still answers; at the interpreter's end pycuda would complain.
            atexit.register(_contexts.clear)
        if ordinal not in _contexts:
            _contexts[ordinal] = device.retain_primary_context()
        return _contexts[ordinal]


class PycudaDevice:
    """One GPU.

    Args:
        ordinal: Which of the GPUs that the driver shows to this process.

    Raises:
        EngineError: `engine.no_cuda` when there is no driver, GPU or pycuda.
    """

    def __init__(self, ordinal: int = 0) -> None:
        problem = pycuda_problem()
        if problem is not None:
            raise EngineError(
                f"CUDA cannot be used: {problem}", code="engine.no_cuda", hint=GPU_HINT
            )
        import pycuda.driver as cuda

        with _driver_errors():
            cuda.init()
            if ordinal >= cuda.Device.count():
                raise EngineError(
                    f"no GPU {ordinal}: this process sees {cuda.Device.count()}",
                    code="engine.no_cuda",
                )
            device = cuda.Device(ordinal)
            self._name = str(device.name())
            self._sm = "{}.{}".format(*device.compute_capability())
            self._context: Any = _primary_context(ordinal, device)

    @property
    def name(self) -> str:
        return self._name

    @property
    def sm(self) -> str:
        return self._sm

    @property
    def captures(self) -> bool:
        return graphs.can_capture()

    @contextmanager
    def current(self) -> Iterator[None]:
        import pycuda.driver as cuda

        if self._context is None:
            raise EngineError("the GPU was closed", code="engine.closed")
        self._context.push()
        try:
            yield
        finally:
            cuda.Context.pop()

    def pinned(self, nbytes: int) -> PinnedMemory:
        with _driver_errors():
            return _Pinned(nbytes)

    def memory(self, nbytes: int) -> DeviceMemory:
        with _driver_errors():
            return _Memory(nbytes)

    def stream(self) -> CudaStream:
        with _driver_errors():
            return _Stream()

    def event(self) -> CudaEvent:
        with _driver_errors():
            return _Event()

    def copy_in(self, to: DeviceMemory, source: PinnedMemory, n: int, stream: CudaStream) -> None:
        import pycuda.driver as cuda

        with _driver_errors():
            cuda.memcpy_htod_async(to.address, source.array[:n], _own(stream, _Stream).stream)

    def copy_out(self, to: PinnedMemory, source: DeviceMemory, n: int, stream: CudaStream) -> None:
        import pycuda.driver as cuda

        with _driver_errors():
            cuda.memcpy_dtoh_async(to.array[:n], source.address, _own(stream, _Stream).stream)

    def memory_info(self) -> tuple[int, int]:
        import pycuda.driver as cuda

        with _driver_errors():
            free, total = cuda.mem_get_info()
            return int(free), int(total)

    def capture(self, stream: CudaStream, enqueue: Callable[[], None]) -> CudaGraph:
        if not self.captures:
            raise EngineError(
                "CUDA graphs need cuda-bindings, which is not installed",
                code="engine.no_graphs",
                hint=GPU_HINT,
            )
        return graphs.capture(stream, enqueue)

    def close(self) -> None:
        self._context = None


class _Pinned:
    def __init__(self, nbytes: int) -> None:
        import pycuda.driver as cuda

        self._array: npt.NDArray[np.uint8] | None = cuda.pagelocked_empty(nbytes, np.uint8)

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        array: npt.NDArray[np.uint8] = _alive(self._array, "pinned memory")
        return array

    def free(self) -> None:
        array, self._array = self._array, None
        if array is not None:
            allocation: Any = array.base
            allocation.free()


class _Memory:
    def __init__(self, nbytes: int) -> None:
        import pycuda.driver as cuda

        self._nbytes = nbytes
        self._allocation: Any = cuda.mem_alloc(nbytes)

    @property
    def address(self) -> int:
        return int(_alive(self._allocation, "device memory"))

    @property
    def nbytes(self) -> int:
        return self._nbytes

    def free(self) -> None:
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            allocation.free()


class _Stream:
    def __init__(self) -> None:
        import pycuda.driver as cuda

        # CU_STREAM_NON_BLOCKING, which pycuda does not name: 1 in cuda.h.
        self._stream: Any = cuda.Stream(1)

    @property
    def stream(self) -> Any:
        """Pycuda's stream."""
        return _alive(self._stream, "stream")

    @property
    def handle(self) -> int:
        return int(self.stream.handle)

    def free(self) -> None:
        # pycuda destroys with the last reference, and only where the context is current.
        self._stream = None

    def wait_for(self, event: CudaEvent) -> None:
        with _driver_errors():
            self.stream.wait_for_event(_own(event, _Event).event)

    def synchronize(self) -> None:
        with _driver_errors():
            self.stream.synchronize()


class _Event:
    def __init__(self) -> None:
        import pycuda.driver as cuda

        # A waiting thread sleeps: the cores are the decoders'.
        flags = cuda.event_flags.DISABLE_TIMING | cuda.event_flags.BLOCKING_SYNC
        self._event: Any = cuda.Event(flags)

    @property
    def event(self) -> Any:
        """Pycuda's event."""
        return _alive(self._event, "event")

    def free(self) -> None:
        self._event = None

    def record(self, stream: CudaStream) -> None:
        with _driver_errors():
            self.event.record(_own(stream, _Stream).stream)

    def reached(self) -> bool:
        with _driver_errors():
            return bool(self.event.query())

    def wait(self) -> None:
        with _driver_errors():
            self.event.synchronize()


def _alive(thing: Any, what: str) -> Any:
    if thing is None:
        raise EngineError(f"the {what} was freed", code="engine.closed")
    return thing


def _own(thing: object, kind: type[_T]) -> _T:
    if not isinstance(thing, kind):
        raise TypeError(f"{thing!r} belongs to another device library")
    return thing


@contextmanager
def _driver_errors() -> Iterator[None]:
    import pycuda.driver as cuda

    try:
        yield
    except cuda.MemoryError as error:
        raise EngineError(
            f"out of GPU or pinned memory: {error}",
            code="engine.out_of_memory",
            hint="Free the GPU of other work, or use smaller buckets.",
        ) from error
    except cuda.Error as error:
        raise EngineError(f"CUDA failed: {error}") from error
