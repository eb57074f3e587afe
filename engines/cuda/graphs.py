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
        EngineError: `engine.no_graphs`; the stream is out of capture again.
    """
    from cuda.bindings import driver

    mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    handle = driver.CUstream(stream.handle)
    _call("cuStreamBeginCapture", driver.cuStreamBeginCapture(handle, mode))
    try:
        enqueue()
    except BaseException:
        # A capture that is left open would swallow everything the stream is given later.
        driver.cuStreamEndCapture(handle)
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

        _call("cuGraphLaunch", driver.cuGraphLaunch(self._executable, stream.handle))

    def free(self) -> None:
        from cuda.bindings import driver

        executable, self._executable = self._executable, None
        if executable is not None:
            _call("cuGraphExecDestroy", driver.cuGraphExecDestroy(executable))


def _call(name: str, answer: tuple[Any, ...]) -> tuple[Any, ...]:
    status, *values = answer
    if int(status) != 0:
        raise EngineError(
            f"{name} failed: {getattr(status, 'name', status)}", code="engine.no_graphs"
        )
    return tuple(values)
