"""LaneEngine: a PipelinedEngine whose lanes some library computes.

It keeps the device's context current around a Pipeline and takes things apart in the right order;
how lanes are made, and what else is to be freed, its subclasses know.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Generic

import numpy as np
import numpy.typing as npt

from engines.cuda.device import CudaDevice
from engines.cuda.pipeline import Batch, LaneT, Pipeline
from reelsight.engine.image_engine import ImageEngine
from reelsight.engine.protocol import Ticket
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["LaneEngine"]


class LaneEngine(ImageEngine, Generic[LaneT]):
    """An engine over lanes on one GPU. A subclass sets `_pipeline` when its lanes are open.

    Args:
        spec: What the engine is.
        device: The GPU; closed with the engine.
        slots: Batches that can be in flight.
    """

    def __init__(self, spec: EngineSpec, device: CudaDevice, slots: int) -> None:
        super().__init__(spec)
        self._device, self._slots = device, slots
        self._pipeline: Pipeline[LaneT] | None = None
        self._closed = False

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def usable_buckets(self) -> tuple[int, ...]:
        """Buckets that run whole; batches of the others run in parts of these."""
        return tuple(lane.bucket for lane in self._open_pipeline().lanes)

    def warmup(self) -> None:
        """Run every bucket on every slot once."""
        self._run_buckets(times=self._slots)

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.submit(pixels).result()

    def submit(self, pixels: npt.NDArray[np.uint8]) -> Ticket:
        pipeline = self._open_pipeline()
        with self._device.current():
            return pipeline.submit(pixels)

    def submit_batch(self, batch: Batch) -> Ticket:
        """Start a batch of any kind, as `Pipeline.submit_batch` does."""
        pipeline = self._open_pipeline()
        with self._device.current():
            return pipeline.submit_batch(batch)

    def close(self) -> None:
        """Wait for the GPU; free lanes, slots, what the lanes were made of, and the device.

        A step that fails, as all do on a GPU that fell over, keeps none from being tried.
        """
        if self._closed:
            return
        self._closed = True
        pipeline, self._pipeline = self._pipeline, None
        with ExitStack() as steps:  # The last first.
            steps.callback(self._device.close)
            steps.enter_context(self._device.current())
            steps.callback(self._let_go)
            if pipeline is not None:
                steps.callback(pipeline.close)

    def _let_go(self) -> None:
        """Free what the lanes were made of; they and the slots are gone."""

    def _open_pipeline(self) -> Pipeline[LaneT]:
        if self._pipeline is None:
            raise EngineError("the engine was closed", code="engine.closed")
        return self._pipeline
