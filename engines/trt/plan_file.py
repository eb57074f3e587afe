"""A plan in memory: deserialised, and checked against the spec that it claims to be.

It knows tensors and profiles; contexts and batches are `lanes`' and `runtime`'s.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.trt.builder import INPUT, OUTPUT
from engines.trt.flavour import Flavour
from engines.trt.library import Library
from engines.trt.recorder import Trouble, error_recorder, logger
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["LoadedPlan"]


class LoadedPlan:
    """A deserialised engine and what keeps it alive.

    Made with a device's context current: without a driver TensorRT's runtime crashes.

    Args:
        flavour: Which TensorRT.
        lib: Its module.
        path: The plan; its hash was verified by the caller.
        spec: What it must be.

    Raises:
        EngineError: `engine.unloadable` when TensorRT refuses the file or it is another engine;
            `engine.out_of_memory`.
    """

    def __init__(self, flavour: Flavour, lib: Library, path: Path, spec: EngineSpec) -> None:
        self.flavour, self.lib = flavour, lib
        self.trouble = Trouble()
        self._path = path
        self._logger = logger(lib, self.trouble)
        self._recorder = error_recorder(lib, self.trouble)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise self._unloadable(str(error)) from error
        runtime = lib.Runtime(self._logger)
        runtime.error_recorder = self._recorder
        if flavour.compatibility:
            # A plan for later versions brings a runtime of its own, which is host code. A plan's
            # kernels are native code too: what is not trusted does not come here.
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise self.trouble.failure(
                f"{flavour.title} {lib.__version__} cannot load {path}",
                code="engine.unloadable",
                hint="Build it again for this GPU and version: `reelsight engine build`.",
            )
        self._runtime: trt.Runtime | None = runtime
        self._engine: trt.ICudaEngine | None = engine
        self._check(engine, spec)

    @property
    def engine(self) -> trt.ICudaEngine:
        """The engine.

        Raises:
            EngineError: `engine.closed`.
        """
        if self._engine is None:
            raise EngineError("the engine was closed", code="engine.closed")
        return self._engine

    def inspect(self) -> dict[str, Any]:
        """TensorRT's own account of the layers, and the memory that each profile needs."""
        inspector = self.engine.create_engine_inspector()
        if inspector is None:
            raise self.trouble.failure("TensorRT gave no inspector")
        text = inspector.get_engine_information(self.lib.LayerInformationFormat.JSON)
        profiles = range(self.engine.num_optimization_profiles)
        return {
            "layers": json.loads(text) if text else None,
            "device_bytes": [
                self.engine.get_device_memory_size_for_profile_v2(p) for p in profiles
            ],
            "warnings": list(self.trouble.warnings),
        }

    def close(self) -> None:
        """Let the engine go, then its runtime; contexts are gone before. Idempotent."""
        self._engine = None
        self._runtime = None

    def _check(self, engine: trt.ICudaEngine, spec: EngineSpec) -> None:
        mode, types, size = self.lib.TensorIOMode, self.lib.DataType, spec.geometry.size
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        found = [
            (name, engine.get_tensor_mode(name), engine.get_tensor_dtype(name)) for name in names
        ]
        if sorted(found, key=lambda tensor: tensor[0]) != [
            (OUTPUT, mode.OUTPUT, types.FLOAT),
            (INPUT, mode.INPUT, types.UINT8),
        ]:
            raise self._unloadable(f"it takes and gives {found}")
        if tuple(engine.get_tensor_shape(OUTPUT))[1:] != (spec.dim,):
            shape = tuple(engine.get_tensor_shape(OUTPUT))
            raise self._unloadable(f"its embeddings are {shape}, not [n, {spec.dim}]")
        profiles = [
            [tuple(dims) for dims in engine.get_tensor_profile_shape(INPUT, index)]
            for index in range(engine.num_optimization_profiles)
        ]
        if profiles != [[(bucket, size, size, 3)] * 3 for bucket in spec.buckets]:
            raise self._unloadable(f"its profiles are {profiles}, not the buckets {spec.buckets}")

    def _unloadable(self, reason: str) -> EngineError:
        return EngineError(
            f"{self._path} is not the engine that its package describes: {reason}",
            code="engine.unloadable",
            hint="Build it again: `reelsight engine build`.",
        )
