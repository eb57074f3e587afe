"""What TensorRT says while it works: its errors become our error's message, its warnings details.

TensorRT reports through callbacks, from threads of its own, and then returns None, False or -1. A
callback never raises: an exception has no way through TensorRT's C++ frames.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from engines.trt.library import Library
from reelsight.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["Trouble", "error_recorder", "immortal", "logger", "one_line"]

_KEPT = 64
_IMMORTAL: list[object] = []
_T = TypeVar("_T")
# TensorRT has a code of its own for memory, and CUDA's words where it asked CUDA directly.
_MEMORY_WORDS = ("out of memory", "outofmemory", "cudaerror 2:", "failed_allocation")


def one_line(text: str) -> str:
    """A message of several lines as one."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


class Trouble:
    """Errors and warnings of one builder or runtime; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._errors: list[tuple[int, str]] = []
        self._warnings: list[str] = []
        self._lost = 0

    def error(self, code: int, text: str) -> None:
        """Note an error; past 64 they are only counted."""
        with self._lock:
            if len(self._errors) < _KEPT:
                self._errors.append((code, text))
            else:
                self._lost += 1

    def warn(self, text: str) -> None:
        """Note a warning; past 64 they are dropped."""
        with self._lock:
            if len(self._warnings) < _KEPT and text not in self._warnings:
                self._warnings.append(text)

    def clear(self) -> None:
        """Forget the errors; what is asked next is about what happens next."""
        with self._lock:
            self._errors.clear()
            self._lost = 0

    @property
    def errors(self) -> tuple[tuple[int, str], ...]:
        """TensorRT's error code and description of each error, in order."""
        with self._lock:
            return tuple(self._errors)

    @property
    def lost(self) -> int:
        """Errors that were not kept."""
        return self._lost

    @property
    def warnings(self) -> tuple[str, ...]:
        """Each warning once."""
        with self._lock:
            return tuple(self._warnings)

    @property
    def out_of_memory(self) -> bool:
        """Whether an error speaks of memory."""
        text = " ".join(text for _, text in self.errors).lower()
        return any(word in text for word in _MEMORY_WORDS)

    def failure(
        self, what: str, *, code: str = "engine.failed", hint: str | None = None
    ) -> EngineError:
        """An error with all that TensorRT said.

        Args:
            what: What was tried, such as `TensorRT did not build the engine`.
            code: Of the error; `engine.out_of_memory` takes its place when memory ran out.
            hint: Of the error.
        """
        words = "; ".join(dict.fromkeys(one_line(text) for _, text in self.errors))
        more = f" (and {self.lost} more)" if self.lost else ""
        if self.out_of_memory:
            code, hint = (
                "engine.out_of_memory",
                "Free the GPU of other work, or use smaller buckets.",
            )
        return EngineError(f"{what}: {words or 'it gave no reason'}{more}", code=code, hint=hint)


def immortal(callback: _T) -> _T:
    """Keep an object that TensorRT calls back for the life of the process.

    TensorRT holds bare pointers: its objects call their logger and recorder while they are
    destroyed, which in Python may be after those, and the first logger serves the whole process.
    Such an object is small and there are a few for each build or opened engine.
    """
    _IMMORTAL.append(callback)
    return callback


def error_recorder(lib: Library, trouble: Trouble) -> trt.IErrorRecorder:
    """TensorRT's IErrorRecorder over a Trouble; immortal."""
    if TYPE_CHECKING:
        from tensorrt import IErrorRecorder as Interface
    else:
        Interface = lib.IErrorRecorder  # noqa: N806

    class Recorder(Interface):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            Interface.__init__(self)

        def clear(self) -> None:
            trouble.clear()

        def num_errors(self) -> int:
            return len(trouble.errors)

        def get_error_code(self, arg0: int) -> trt.ErrorCodeTRT:  # type: ignore[override, unused-ignore]
            return lib.ErrorCodeTRT(trouble.errors[arg0][0])

        def get_error_desc(self, arg0: int) -> str:  # type: ignore[override, unused-ignore]
            return trouble.errors[arg0][1]

        def has_overflowed(self) -> bool:
            return trouble.lost > 0

        def report_error(self, arg0: trt.ErrorCodeTRT, arg1: str) -> bool:
            trouble.error(int(arg0), f"{arg1} [{arg0.name}]")
            return False

    return immortal(Recorder())


def logger(lib: Library, trouble: Trouble) -> trt.ILogger:
    """TensorRT's ILogger over a Trouble; immortal.

    It takes errors too: an object without a recorder has no other way to tell them.
    """
    if TYPE_CHECKING:
        from tensorrt import ILogger as Interface
    else:
        Interface = lib.ILogger  # noqa: N806
    warning = int(lib.ILogger.Severity.WARNING)
    unspecified = int(lib.ErrorCodeTRT.UNSPECIFIED_ERROR)

    class Log(Interface):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            Interface.__init__(self)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            if int(severity) == warning:
                trouble.warn(msg)
            elif int(severity) < warning:
                trouble.error(unspecified, msg)

    return immortal(Log())
