"""The part of TensorRT's Python API that we call, typed by the bindings themselves.

Two modules offer it, `tensorrt` and `tensorrt_rtx`, and code gets the one it works with as a value.
Where stubs of the bindings are at hand (`scripts/trt_stubs.py` makes them) mypy checks every call
against them; elsewhere the names are Any. What differs between the two is `flavour`'s knowledge.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from reelsight.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt
    import tensorrt_rtx as rtx

__all__ = ["Library", "load_library"]


class Library:
    """A module with TensorRT's names; at run time `tensorrt` or `tensorrt_rtx` itself."""

    if TYPE_CHECKING:
        __version__: str
        Builder = trt.Builder
        BuilderFlag = trt.BuilderFlag
        ComputeCapability = rtx.ComputeCapability  # TensorRT-RTX alone.
        DataType = trt.DataType
        Dims = trt.Dims
        ErrorCodeTRT = trt.ErrorCodeTRT
        HardwareCompatibilityLevel = trt.HardwareCompatibilityLevel
        IErrorRecorder = trt.IErrorRecorder
        ILogger = trt.ILogger
        IProgressMonitor = trt.IProgressMonitor
        LayerInformationFormat = trt.LayerInformationFormat
        MemoryPoolType = trt.MemoryPoolType
        NetworkDefinitionCreationFlag = trt.NetworkDefinitionCreationFlag
        OnnxParser = trt.OnnxParser
        ProfilingVerbosity = trt.ProfilingVerbosity
        Runtime = trt.Runtime
        TensorIOMode = trt.TensorIOMode


def load_library(module: str) -> Library:
    """Import a TensorRT module.

    Args:
        module: `tensorrt` or `tensorrt_rtx`.

    Raises:
        EngineError: `engine.backend_missing` when it or one of its shared libraries is not there.
    """
    try:
        found = importlib.import_module(module)
    # A wheel of bindings without its libraries fails as OSError or ImportError.
    except (ImportError, OSError) as error:
        raise EngineError(
            f"{module} does not import: {error}",
            code="engine.backend_missing",
            hint=f"Install it: pip install 'reelsight[{module.replace('_', '-')}]'.",
        ) from error
    return cast(Library, found)
