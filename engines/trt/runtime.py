"""TrtEngine: a plan on a GPU, two batches in flight.

One batch is computed at a time, in the order of submission, while the next one is copied in and
the last one out. Where the GPU's memory does not hold the contexts of all buckets, the largest are
given up and their batches run in parts: slower, with the same rows and the same spec. Hashes are
the caller's business: a plan is native code and is verified before it comes here.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engines.cuda.device import CudaDevice, CudaEvent
from engines.cuda.slots import Slot, SlotRing
from engines.trt.flavour import Flavour
from engines.trt.lanes import Lane, open_lanes
from engines.trt.library import Library
from engines.trt.plan_file import LoadedPlan
from reelsight.atomic import write_whole
from reelsight.engine.protocol import Ticket
from reelsight.errors import EngineError, EngineInputError
from reelsight.nouns.engine_spec import EngineSpec

if TYPE_CHECKING:
    import tensorrt_rtx as rtx

__all__ = ["TrtEngine"]

_SLOTS = 2
_OOM = "engine.out_of_memory"


class TrtEngine:
    """A PipelinedEngine over one plan.

    Args:
        flavour: Which TensorRT.
        lib: Its module.
        spec: Of the package; what the plan is checked against.
        path: The plan.
        device: The GPU; closed with the engine.
        jit_cache: File for what TensorRT-RTX compiles for this GPU; None to compile each time.

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
        jit_cache: Path | None = None,
    ) -> None:
        self._spec, self._device, self._jit_file = spec, device, jit_cache
        self._plan: LoadedPlan | None = None
        self._jit: rtx.IRuntimeCache | None = None
        self._ring: SlotRing | None = None
        self._lanes: dict[int, Lane] = {}
        self._last: CudaEvent | None = None
        self._unread = 0
        self._closed = False
        try:
            with device.current():
                self._plan = LoadedPlan(flavour, lib, path, spec)
                content = _content(jit_cache) if flavour.jit else b""
                self._jit = flavour.jit_cache(self._plan.engine, content)
                lanes = open_lanes(self._plan, spec, device, self._jit)
                self._lanes = {lane.bucket: lane for lane in lanes}
                self._ring = self._fitting_ring()
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
        return tuple(self._lanes)

    def warmup(self) -> None:
        """Run every bucket on every slot once, and record the graphs that later batches replay."""
        size = self._spec.geometry.size
        for bucket in self._spec.buckets:
            for _ in range(_SLOTS):
                self.run(np.zeros((bucket, size, size, 3), np.uint8))
        with self._device.current():
            ring = self._open_ring()
            for lane in self._lanes.values():
                for slot in ring.slots:
                    lane.capture(slot)

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.submit(pixels).result()

    def submit(self, pixels: npt.NDArray[np.uint8]) -> Ticket:
        self._check(pixels)
        if self._unread >= _SLOTS:
            raise EngineError(
                f"{_SLOTS} batches are in flight and none of their results was read",
                code="engine.slots_full",
                hint="Read a ticket's result before submitting the next batch.",
            )
        with self._device.current():
            rows = len(pixels)
            while rows in self._lanes:
                try:
                    ticket: Ticket = _InFlight(self, self._start(pixels), rows)
                    break
                except EngineError as error:
                    self._give_up(rows, error)
            else:
                ticket = _Finished(self, self._run_in_parts(pixels))
        self._unread += 1
        return ticket

    def report(self) -> dict[str, Any]:
        """What a person may ask: buckets, graphs, memory, and TensorRT's account of the layers."""
        with self._device.current():
            if self._plan is None:
                raise EngineError("the engine was closed", code="engine.closed")
            free, total = self._device.memory_info()
            return {
                "gpu": self._device.name,
                "buckets": list(self._lanes),
                "given_up": [b for b in self._spec.buckets if b not in self._lanes],
                "graphs": {str(b): lane.graphs for b, lane in self._lanes.items()},
                "gpu_bytes": {"free": free, "total": total},
                **self._plan.inspect(),
            }

    def close(self) -> None:
        """Wait for the GPU; free graphs, contexts, engine, buffers and device, in this order."""
        if self._closed:
            return
        self._closed = True
        ring, self._ring = self._ring, None
        lanes, self._lanes = self._lanes, {}
        plan, self._plan = self._plan, None
        # The last first; a step that fails, as all do on a GPU that fell over, keeps none from
        # being tried.
        with contextlib.ExitStack() as steps:
            steps.callback(self._device.close)
            steps.enter_context(self._device.current())
            if ring is not None:
                steps.callback(ring.close)
            if plan is not None:
                steps.callback(plan.close)
            steps.callback(self._keep_compiled)
            for lane in lanes.values():
                steps.callback(lane.close)
            if ring is not None:
                steps.callback(ring.drain)

    def collect(self, slot: Slot, rows: int) -> npt.NDArray[np.float32]:
        """Wait for a batch and free its slot."""
        with self._device.current():
            ring = self._open_ring()
            try:
                slot.done.wait()
                flat = slot.host_out.array[: self._bytes_out(rows)].view(np.float32)
                return flat.reshape(rows, self._spec.dim).copy()
            finally:
                ring.give_back(slot)

    def was_read(self) -> None:
        """A ticket's result was asked for."""
        self._unread -= 1

    def _check(self, pixels: npt.NDArray[np.uint8]) -> None:
        if self._closed:
            raise EngineError("the engine was closed", code="engine.closed")
        size = self._spec.geometry.size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise EngineInputError(
                f"frames are {pixels.dtype} {list(pixels.shape)}, not uint8 [n, {size}, {size}, 3]"
            )
        if not pixels.flags.c_contiguous:
            raise EngineInputError("frames are not C-contiguous")
        if len(pixels) not in self._spec.buckets:
            raise EngineError(
                f"batch of {len(pixels)} is not one of the buckets {self._spec.buckets}",
                code="engine.bad_batch",
            )

    def _start(self, pixels: npt.NDArray[np.uint8]) -> Slot:
        ring = self._open_ring()
        slot = ring.take(pixels)
        try:
            if self._last is not None:
                # A context, and the memory that it works in, serves one batch at a time.
                slot.stream.wait_for(self._last)
            self._lanes[len(pixels)].enqueue(slot)
            slot.computed.record(slot.stream)
            self._last = slot.computed
            ring.send_back(slot, self._bytes_out(len(pixels)))
        except BaseException:
            ring.give_back(slot)
            raise
        return slot

    def _give_up(self, bucket: int, error: EngineError) -> None:
        """Free the largest bucket's context when memory ran out and a smaller one is there."""
        if error.code != _OOM or bucket == min(self._lanes):
            raise error
        for larger in [b for b in self._lanes if b >= bucket]:
            self._open_ring().drain()
            self._lanes.pop(larger).close()

    def _run_in_parts(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed a batch whose bucket was given up, one part after the other."""
        rows: list[npt.NDArray[np.float32]] = []
        done = 0
        while done < len(pixels):
            bucket = max(self._lanes)
            part = pixels[done : done + bucket]
            whole = np.zeros((bucket, *pixels.shape[1:]), np.uint8)
            whole[: len(part)] = part
            try:
                rows.append(self.collect(self._start(whole), bucket)[: len(part)])
            except EngineError as error:
                self._give_up(bucket, error)
                continue
            done += len(part)
        return np.concatenate(rows)

    def _fitting_ring(self) -> SlotRing:
        """Slots for the largest bucket that memory holds; larger ones are given up."""
        size = self._spec.geometry.size
        while True:
            bucket = max(self._lanes)
            try:
                return SlotRing(
                    self._device,
                    count=_SLOTS,
                    bytes_in=bucket * size * size * 3,
                    bytes_out=self._bytes_out(bucket),
                )
            except EngineError as error:
                if error.code != _OOM or len(self._lanes) == 1:
                    raise
                self._lanes.pop(bucket).close()

    def _keep_compiled(self) -> None:
        """Save what TensorRT-RTX compiled here; a cache that cannot be kept costs only time."""
        jit, self._jit = self._jit, None
        if jit is None or self._jit_file is None:
            return
        content = jit.serialize()
        if content is not None:
            with contextlib.suppress(OSError):
                write_whole(self._jit_file, content)

    def _bytes_out(self, rows: int) -> int:
        return rows * self._spec.dim * np.dtype(np.float32).itemsize

    def _open_ring(self) -> SlotRing:
        if self._ring is None:
            raise EngineError("the engine was closed", code="engine.closed")
        return self._ring


class _InFlight:
    """A batch on the GPU."""

    def __init__(self, engine: TrtEngine, slot: Slot, rows: int) -> None:
        self._engine, self._rows = engine, rows
        self._slot: Slot | None = slot

    def result(self) -> npt.NDArray[np.float32]:
        slot, self._slot = self._slot, None
        if slot is None:
            raise _read_twice()
        self._engine.was_read()
        return self._engine.collect(slot, self._rows)


class _Finished:
    """A batch that had to be run in parts."""

    def __init__(self, engine: TrtEngine, rows: npt.NDArray[np.float32]) -> None:
        self._engine = engine
        self._rows: npt.NDArray[np.float32] | None = rows

    def result(self) -> npt.NDArray[np.float32]:
        rows, self._rows = self._rows, None
        if rows is None:
            raise _read_twice()
        self._engine.was_read()
        return rows


def _read_twice() -> EngineError:
    return EngineError("a ticket's result is read once", code="engine.ticket_read")


def _content(path: Path | None) -> bytes:
    try:
        return b"" if path is None else path.read_bytes()
    except OSError:
        return b""
