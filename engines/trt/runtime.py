"""TrtEngine: a plan on a GPU, two batches in flight.

Its lanes are the plan's contexts, one a bucket. Hashes are the caller's business: a plan is native
code and is verified before it comes here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.cuda.device import CudaDevice
from engines.cuda.lane_engine import LaneEngine
from engines.cuda.pipeline import Pipeline
from engines.trt.flavour import Flavour
from engines.trt.lanes import ContextLane, open_lanes
from engines.trt.library import Library
from engines.trt.plan_file import LoadedPlan
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["TrtEngine"]

_SLOTS = 2


class TrtEngine(LaneEngine[ContextLane]):
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
        super().__init__(spec, device, _SLOTS)
        self._plan: LoadedPlan | None = None
        try:
            with device.current():
                self._plan = LoadedPlan(flavour, lib, path, spec)
                lanes = open_lanes(self._plan, spec, device)
                self._pipeline = Pipeline(spec, device, lanes, slots=_SLOTS, copy_threads=threads)
        except BaseException:
            self.close()
            raise

    def warmup(self) -> None:
        """Run every bucket on every slot once, and record the graphs that later batches replay."""
        super().warmup()
        with self._device.current():
            for lane in self._open_pipeline().lanes:
                for slot in self._open_pipeline().ring.slots:
                    lane.capture(slot)

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

    def _let_go(self) -> None:
        plan, self._plan = self._plan, None
        if plan is not None:
            plan.close()
