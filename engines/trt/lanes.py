"""Lanes: one execution context a bucket, and the CUDA graph that each slot replays on it.

A context belongs to one profile, and so to one batch size. It is used by one batch at a time: who
enqueues here has ordered the streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.cuda.device import CudaDevice, CudaGraph
from engines.cuda.slots import Slot
from engines.trt.builder import INPUT, OUTPUT
from engines.trt.plan_file import LoadedPlan
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["ContextLane", "open_lanes"]


class ContextLane:
    """One bucket's context.

    Args:
        plan: The loaded plan.
        index: Of the bucket, and of its profile.
        shape: Of the bucket's input, [B, S, S, 3].
        device: Where it runs; its context is current in every call.

    Raises:
        EngineError: TensorRT refuses; `engine.out_of_memory`.
    """

    def __init__(
        self,
        plan: LoadedPlan,
        index: int,
        shape: tuple[int, int, int, int],
        device: CudaDevice,
    ) -> None:
        self.bucket = shape[0]
        self._plan, self._device = plan, device
        self._graphs: dict[int, CudaGraph] = {}
        plan.trouble.clear()
        context = plan.flavour.context(plan.engine)
        if context is None:
            raise self._failure("cannot make a context")
        self._context: trt.IExecutionContext | None = context
        stream = device.stream()
        try:
            if not context.set_optimization_profile_async(index, stream.handle):
                raise self._failure("refuses its profile")
            stream.synchronize()
        finally:
            stream.free()
        if not context.set_input_shape(INPUT, shape):
            raise self._failure(f"refuses the shape {shape}")

    @property
    def graphs(self) -> int:
        """Slots that have a captured graph."""
        return len(self._graphs)

    def enqueue(self, slot: Slot) -> None:
        """Put the computing of a slot's batch into its stream.

        Raises:
            EngineError: TensorRT refuses; `engine.out_of_memory`.
        """
        graph = self._graphs.get(slot.index)
        if graph is not None:
            graph.launch(slot.stream)
            return
        if self._context is None:
            raise EngineError("the engine was closed", code="engine.closed")
        self._plan.trouble.clear()
        addresses = {INPUT: slot.device_in.address, OUTPUT: slot.device_out.address}
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise self._failure(f"refuses the address of {name}")
        if not self._context.execute_async_v3(slot.stream.handle):
            raise self._failure("failed")

    def capture(self, slot: Slot) -> bool:
        """Record the computing of a slot as a graph; it was enqueued once before.

        TensorRT does what cannot be recorded (allocations, choices that follow a new shape) in the
        first run, which is why there must have been one.

        Returns:
            Whether there is a graph now; without one `enqueue` calls TensorRT each time.
        """
        if slot.index in self._graphs:
            return True
        if self._context is None or not self._device.captures:
            return False
        if not self._plan.flavour.capturable(self._context, slot.stream.handle):
            return False
        try:
            graph = self._device.capture(slot.stream, lambda: self.enqueue(slot))
        except EngineError as error:
            # A graph saves time and nothing else. A device that has failed fails the next batch.
            self._plan.trouble.warn(f"no CUDA graph for batches of {self.bucket}: {error}")
            return False
        self._graphs[slot.index] = graph
        return True

    def close(self) -> None:
        """Free the graphs, then the context; nothing of it runs any more. Idempotent."""
        graphs, self._graphs = self._graphs, {}
        for graph in graphs.values():
            graph.free()
        self._context = None

    def _failure(self, what: str) -> EngineError:
        return self._plan.trouble.failure(
            f"{self._plan.flavour.title} {what} (batch of {self.bucket})"
        )


def open_lanes(
    plan: LoadedPlan,
    spec: EngineSpec,
    device: CudaDevice,
) -> list[ContextLane]:
    """A lane a bucket, ascending, as far as memory goes.

    Raises:
        EngineError: TensorRT refuses; `engine.out_of_memory` when not even the smallest fits.
    """
    size = spec.geometry.size
    lanes: list[ContextLane] = []
    try:
        for index, bucket in enumerate(spec.buckets):
            lanes.append(ContextLane(plan, index, (bucket, size, size, 3), device))
    except EngineError as error:
        if error.code != "engine.out_of_memory" or not lanes:
            for lane in lanes:
                lane.close()
            raise
    return lanes
