"""TrtEngine: a plan on a GPU, two batches in flight.

Its lanes are the plan's contexts, one a bucket. Hashes are the caller's business: a plan is native
code and is verified before it comes here.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.cuda.device import CudaDevice
from engines.cuda.pipeline import Pipeline
from engines.trt.flavour import Flavour
from engines.trt.lanes import ContextLane, open_lanes
from engines.trt.library import Library
from engines.trt.plan_file import LoadedPlan
from reelsight.engine.batches import run_buckets
from reelsight.engine.protocol import Ticket
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["TrtEngine"]

_SLOTS = 2


class TrtEngine:
    """A PipelinedEngine over one plan.

    Args:
        flavour: Which TensorRT.
        lib: Its module.
        spec: Of the package; what the plan is checked against.
        path: The plan.
        device: The GPU; closed with the engine.
        threads: CPU threads that copy frames into page-locked memory.

    Raises:
        EngineError: The plan cannot be loaded, is another engine, or not even its smallest bucket
            fits the GPU's memory. The device is closed then.
    """

    def __init__(
        self,
        flavour: Flavour,
        lib: Library,
        spec: EngineSpec,
        path: Path,
        device: CudaDevice,
        *,
        threads: int,
    ) -> None:
        self._spec, self._device = spec, device
        self._plan: LoadedPlan | None = None
        self._pipeline: Pipeline[ContextLane] | None = None
        self._closed = False
        try:
            with device.current():
                self._plan = LoadedPlan(flavour, lib, path, spec)
                lanes = open_lanes(self._plan, spec, device)
                self._pipeline = Pipeline(spec, device, lanes, slots=_SLOTS, copy_threads=threads)
        except BaseException:
            self.close()
            raise

    @property
    def spec(self) -> EngineSpec:
        return self._spec

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({"embed_image"})

    @property
    def slots(self) -> int:
        return _SLOTS

    @property
    def usable_buckets(self) -> tuple[int, ...]:
        """Buckets that run whole; batches of the others run in parts of these."""
        return tuple(lane.bucket for lane in self._open_pipeline().lanes)

    def warmup(self) -> None:
        """Run every bucket on every slot once, and record the graphs that later batches replay."""
        run_buckets(self, times=_SLOTS)
        with self._device.current():
            for lane in self._open_pipeline().lanes:
                for slot in self._open_pipeline().ring.slots:
                    lane.capture(slot)

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.submit(pixels).result()

    def submit(self, pixels: npt.NDArray[np.uint8]) -> Ticket:
        pipeline = self._open_pipeline()
        with self._device.current():
            return pipeline.submit(pixels)

    def report(self) -> dict[str, Any]:
        """What a person may ask: buckets, graphs, memory, and TensorRT's account of the layers."""
        with self._device.current():
            if self._plan is None:
                raise EngineError("the engine was closed", code="engine.closed")
            free, total = self._device.memory_info()
            usable = self.usable_buckets
            return {
                "gpu": self._device.name,
                "buckets": list(usable),
                "given_up": [b for b in self._spec.buckets if b not in usable],
                "graphs": {str(lane.bucket): lane.graphs for lane in self._open_pipeline().lanes},
                "gpu_bytes": {"free": free, "total": total},
                **self._plan.inspect(),
            }

    def close(self) -> None:
        """Wait for the GPU; free graphs, contexts, engine, buffers and device, in this order."""
        if self._closed:
            return
        self._closed = True
        pipeline, self._pipeline = self._pipeline, None
        plan, self._plan = self._plan, None
        # The last first; a step that fails, as all do on a GPU that fell over, keeps none from
        # being tried.
        with contextlib.ExitStack() as steps:
            steps.callback(self._device.close)
            steps.enter_context(self._device.current())
            if plan is not None:
                steps.callback(plan.close)
            if pipeline is not None:
                steps.callback(pipeline.close)

    def _open_pipeline(self) -> Pipeline[ContextLane]:
        if self._pipeline is None:
            raise EngineError("the engine was closed", code="engine.closed")
        return self._pipeline
