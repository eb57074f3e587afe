"""Capture of CUDA graphs through cuda-bindings, since pycuda has none.

The two libraries share the primary context and meet in plain handles. Where cuda-bindings is not
installed nothing is captured, and engines enqueue their work each time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from engines.cuda.device import CudaStream
from reelsight.errors import EngineError

__all__ = ["DriverGraph", "can_capture", "capture"]

_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


def can_capture() -> bool:
    """Whether cuda-bindings is installed."""
    try:
        return find_spec("cuda.bindings.driver") is not None
    except ModuleNotFoundError:  # There is no package `cuda` at all.
        return False


def capture(stream: CudaStream, enqueue: Callable[[], None]) -> DriverGraph:
    """Record what `enqueue` gives to the stream.

    Other threads may go on allocating: only this thread's calls can break the capture.

    Raises:
        EngineError: `engine.no_graphs`, `engine.out_of_memory`; the stream is out of capture again.
    """
    from cuda.bindings import driver

    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    handle = driver.CUstream(stream.handle)
    _call("cuStreamBeginCapture", driver.cuStreamBeginCapture(handle, mode))
    try:
        enqueue()
    except BaseException:
        # A capture that is left open would swallow everything the stream is given later.
        status, graph = driver.cuStreamEndCapture(handle)
        if int(status) == 0:  # There is no graph where a call broke the capture.
            driver.cuGraphDestroy(graph)
        raise
    (graph,) = _call("cuStreamEndCapture", driver.cuStreamEndCapture(handle))
    try:
        (executable,) = _call("cuGraphInstantiate", driver.cuGraphInstantiate(graph, 0))
    finally:
        driver.cuGraphDestroy(graph)
    return DriverGraph(executable)


class DriverGraph:
    """An instantiated graph.

    Args:
        executable: A CUgraphExec of cuda-bindings.
    """

    def __init__(self, executable: Any) -> None:
        self._executable = executable

    def launch(self, stream: CudaStream) -> None:
        from cuda.bindings import driver

        answer = driver.cuGraphLaunch(self._executable, stream.handle)
        _call("cuGraphLaunch", answer, code="engine.failed")

    def free(self) -> None:
        from cuda.bindings import driver

        executable, self._executable = self._executable, None
        if executable is not None:
            answer = driver.cuGraphExecDestroy(executable)
            _call("cuGraphExecDestroy", answer, code="engine.failed")


def _call(name: str, answer: tuple[Any, ...], *, code: str = "engine.no_graphs") -> tuple[Any, ...]:
    status, *values = answer
    if int(status) == _OUT_OF_MEMORY:
        raise EngineError(
            f"{name} ran out of GPU memory",
            code="engine.out_of_memory",
            hint="Free the GPU of other work, or use smaller buckets.",
        )
    if int(status) != 0:
        raise EngineError(f"{name} failed: {getattr(status, 'name', status)}", code=code)
    return tuple(values)
