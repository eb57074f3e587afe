"""TensorRT's progress callbacks as a BuildWatch, and the watch's wish to cancel as their answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsInt

from engines.backend import BuildWatch
from engines.trt.library import Library
from engines.trt.recorder import immortal

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["WatchedBuild", "progress_monitor"]


class WatchedBuild:
    """Phases of one build, told to a watch.

    TensorRT calls from threads of its own and an exception has no way through it, so what the watch
    raises is kept in `problem` and the build is asked to stop.

    Args:
        watch: Who is told, and who may cancel.
    """

    def __init__(self, watch: BuildWatch) -> None:
        self._watch = watch
        self._steps: dict[str, int] = {}
        self.problem: BaseException | None = None

    def start(self, phase: str, steps: int) -> None:
        """A phase begins."""
        self._steps[phase] = steps
        self.tell(phase, 0)

    def finish(self, phase: str) -> None:
        """A phase ends, also when the build was stopped."""
        self._steps.pop(phase, None)

    def tell(self, phase: str, done: int) -> bool:
        """Steps of a phase are done: whether to go on."""
        if self.problem is None:
            try:
                self._watch.progress(phase, min(1.0, done / max(1, self._steps.get(phase, 1))))
            # Boundary: a caller's code runs here, inside a callback of C++ that cannot raise.
            except BaseException as error:
                self.problem = error
        return self.problem is None


def progress_monitor(lib: Library, build: WatchedBuild) -> trt.IProgressMonitor:
    """TensorRT's IProgressMonitor over a WatchedBuild; immortal."""
    if TYPE_CHECKING:
        from tensorrt import IProgressMonitor as Interface
    else:
        Interface = lib.IProgressMonitor  # noqa: N806

    class Monitor(Interface):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            Interface.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: SupportsInt) -> None:
            build.start(phase_name, int(num_steps))

        def phase_finish(self, phase_name: str) -> None:
            build.finish(phase_name)

        def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
            return build.tell(phase_name, int(step) + 1)

    return immortal(Monitor())
