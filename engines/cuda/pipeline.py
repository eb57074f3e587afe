"""Pipeline: batches through lanes on a GPU, several in flight.

One batch is computed at a time, in the order of submission, while the next one is copied in and
the last one out. A lane computes the batches of one bucket; what it is made of, a TensorRT context
or a graph of torch, is its maker's business. Where the GPU's memory does not hold what all buckets
need, the largest are given up and their batches run in parts: slower, with the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from engines.cuda.device import CudaDevice, CudaEvent
from engines.cuda.slots import Slot, SlotRing
from reelsight.engine.image_engine import check_batch
from reelsight.engine.protocol import Ticket
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["Batch", "Lane", "LaneT", "Pipeline", "open_largest_first"]

_OOM = "engine.out_of_memory"
# A thread that sleeps wakes late, by a good part of what a few frames take: their end is watched
# for, this long at most. Larger batches leave the core to the decoders.
_WATCHED_ROWS = 8
_WATCH_S = 0.003


class Lane(Protocol):
    """Computes the batches of one bucket, one at a time: who enqueues has ordered the streams."""

    @property
    def bucket(self) -> int:
        """Its batch size."""

    def enqueue(self, slot: Slot) -> None:
        """Put the computing of a slot's batch into its stream.

        Raises:
            EngineError: The device refuses; `engine.out_of_memory`.
        """

    def close(self) -> None:
        """Free it; nothing of it runs any more. Idempotent."""


LaneT = TypeVar("LaneT", bound=Lane)


class Batch(Protocol):
    """Frames to be embedded, wherever they lie. Kept until their rows were read."""

    def __len__(self) -> int:
        """How many, 1 or more."""

    def put(self, ring: SlotRing, start: int, count: int, bucket: int) -> Slot:
        """Take a slot and start the way of `count` frames from `start` on into its input.

        The input is as large as a bucket; what they do not fill is filled with zeros.

        Raises:
            EngineError: As `SlotRing.take_filled`.
        """


def open_largest_first(buckets: Iterable[int], open_lane: Callable[[int], LaneT]) -> list[LaneT]:
    """Open a lane a bucket, for lanes whose smaller ones work in the memory of the largest.

    Where memory runs out the largest lane is given up for the smaller one.

    Raises:
        EngineError: `engine.out_of_memory` when not even the smallest bucket fits alone; what
            else `open_lane` says. Nothing stays open.
    """
    lanes: list[LaneT] = []
    waiting = sorted(buckets)
    try:
        while waiting:
            try:
                lanes.append(open_lane(waiting[-1]))
            except EngineError as error:
                if error.code != _OOM or (not lanes and len(waiting) == 1):
                    raise
                if lanes:
                    lanes.pop(0).close()
                    continue
            waiting.pop()
    except BaseException:
        for lane in lanes:
            lane.close()
        raise
    return lanes


class Pipeline(Generic[LaneT]):
    """The lanes of one engine and the slots that feed them. It belongs to one thread.

    Args:
        spec: Of the engine.
        device: Where it runs. Its context is current in every call; it is the caller's to close.
        lanes: One or more buckets; owned from here on.
        slots: How many batches can be in flight, 1 or more.
        copy_threads: Threads that copy a batch into page-locked memory.

    Raises:
        EngineError: `engine.out_of_memory` when not even the slots of the smallest bucket fit.
            The lanes are closed then.
    """

    def __init__(
        self,
        spec: EngineSpec,
        device: CudaDevice,
        lanes: Iterable[LaneT],
        *,
        slots: int,
        copy_threads: int = 1,
    ) -> None:
        self._spec, self._device = spec, device
        self._slots, self._copy_threads = slots, copy_threads
        self._lanes = {lane.bucket: lane for lane in sorted(lanes, key=lambda lane: lane.bucket)}
        self._last: CudaEvent | None = None
        self._unread = 0
        self._ring: SlotRing | None = None
        try:
            self._ring = self._fitting_ring()
        except BaseException:
            self.close()
            raise

    @property
    def lanes(self) -> tuple[LaneT, ...]:
        """The lanes in use, the smallest bucket first."""
        return tuple(self._lanes.values())

    @property
    def ring(self) -> SlotRing:
        """The slots.

        Raises:
            EngineError: `engine.closed`.
        """
        if self._ring is None:
            raise EngineError("the engine was closed", code="engine.closed")
        return self._ring

    def submit(self, pixels: npt.NDArray[np.uint8]) -> Ticket:
        """Start a batch, as PipelinedEngine says."""
        check_batch(self._spec, pixels)
        return self.submit_batch(_HostBatch(pixels))

    def submit_batch(self, batch: Batch) -> Ticket:
        """Start a batch of any size up to the largest bucket's; it has been checked.

        Raises:
            EngineError: As PipelinedEngine.submit; `engine.bad_batch` where no bucket holds it.
        """
        ring, rows = self.ring, len(batch)
        if self._unread >= self._slots:
            raise ring.full()
        bucket = self._spec.bucket_for(rows)
        if not 1 <= rows <= bucket:
            raise EngineError(
                f"batch of {rows} is beyond the buckets {self._spec.buckets}",
                code="engine.bad_batch",
            )
        while bucket in self._lanes:
            try:
                ticket: Ticket = _InFlight(self, self._start(batch, 0, rows, bucket), batch)
                break
            except EngineError as error:
                self._give_up(bucket, error)
        else:
            ticket = _Finished(self, self._run_in_parts(batch))
        self._unread += 1
        return ticket

    def collect(self, slot: Slot, rows: int) -> npt.NDArray[np.float32]:
        """Wait for a batch and free its slot; for tickets."""
        with self._device.current():
            ring = self.ring
            try:
                if rows > _WATCHED_ROWS or not _seen(slot.done):
                    slot.done.wait()
                flat = slot.host_out.array[: self._bytes_out(rows)].view(np.float32)
                return flat.reshape(rows, self._spec.dim).copy()
            finally:
                ring.give_back(slot)

    def was_read(self) -> None:
        """A ticket's result was asked for."""
        self._unread -= 1

    def close(self) -> None:
        """Wait for the GPU; free lanes, then slots. A step that fails keeps none from being tried.

        Idempotent.
        """
        ring, self._ring = self._ring, None
        lanes, self._lanes = self._lanes, {}
        with ExitStack() as steps:  # The last first.
            if ring is not None:
                steps.callback(ring.close)
            for lane in lanes.values():
                steps.callback(lane.close)
            if ring is not None:
                steps.callback(ring.drain)

    def _start(self, batch: Batch, start: int, count: int, bucket: int) -> Slot:
        ring = self.ring
        slot = batch.put(ring, start, count, bucket)
        try:
            if self._last is not None:
                # A lane, and the memory that it works in, serves one batch at a time.
                slot.stream.wait_for(self._last)
            self._lanes[bucket].enqueue(slot)
            slot.computed.record(slot.stream)
            self._last = slot.computed
            ring.send_back(slot, self._bytes_out(count))
        except BaseException:
            ring.give_back(slot)
            raise
        return slot

    def _give_up(self, bucket: int, error: EngineError) -> None:
        """Free the lanes from this bucket up when memory ran out and a smaller one is there."""
        if error.code != _OOM or bucket == min(self._lanes):
            raise error
        for larger in [b for b in self._lanes if b >= bucket]:
            self.ring.drain()
            self._lanes.pop(larger).close()

    def _run_in_parts(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Embed a batch whose bucket was given up, one part after the other."""
        rows: list[npt.NDArray[np.float32]] = []
        done = 0
        while done < len(batch):
            left = len(batch) - done
            bucket = next((b for b in self._lanes if b >= left), max(self._lanes))
            count = min(left, bucket)
            try:
                rows.append(self.collect(self._start(batch, done, count, bucket), count))
            except EngineError as error:
                self._give_up(bucket, error)
                continue
            done += count
        return np.concatenate(rows)

    def _fitting_ring(self) -> SlotRing:
        """Slots for the largest bucket that memory holds; larger ones are given up."""
        size = self._spec.geometry.size
        while True:
            bucket = max(self._lanes)
            try:
                return SlotRing(
                    self._device,
                    count=self._slots,
                    bytes_in=bucket * size * size * 3,
                    bytes_out=self._bytes_out(bucket),
                    copy_threads=self._copy_threads,
                )
            except EngineError as error:
                if error.code != _OOM or len(self._lanes) == 1:
                    raise
                self._lanes.pop(bucket).close()

    def _bytes_out(self, rows: int) -> int:
        return rows * self._spec.dim * np.dtype(np.float32).itemsize


def _seen(event: CudaEvent) -> bool:
    """Watch for an event; whether it came."""
    until = time.perf_counter() + _WATCH_S
    while not event.reached():
        if time.perf_counter() > until:
            return False
    return True


class _HostBatch:
    """Frames in host memory."""

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def put(self, ring: SlotRing, start: int, count: int, bucket: int) -> Slot:
        part = self._pixels[start : start + count]
        if count == bucket:
            return ring.take(part)
        whole = np.zeros((bucket, *part.shape[1:]), np.uint8)
        whole[:count] = part
        return ring.take(whole)


class _InFlight(Generic[LaneT]):
    """A batch on the GPU, which may still be reading the frames where they lie."""

    def __init__(self, pipeline: Pipeline[LaneT], slot: Slot, batch: Batch) -> None:
        self._pipeline, self._rows = pipeline, len(batch)
        self._slot: Slot | None = slot
        self._batch: Batch | None = batch

    def result(self) -> npt.NDArray[np.float32]:
        slot, self._slot = self._slot, None
        if slot is None:
            raise _read_twice()
        self._pipeline.was_read()
        try:
            return self._pipeline.collect(slot, self._rows)
        finally:
            self._batch = None


class _Finished(Generic[LaneT]):
    """A batch that had to be run in parts."""

    def __init__(self, pipeline: Pipeline[LaneT], rows: npt.NDArray[np.float32]) -> None:
        self._pipeline = pipeline
        self._rows: npt.NDArray[np.float32] | None = rows

    def result(self) -> npt.NDArray[np.float32]:
        rows, self._rows = self._rows, None
        if rows is None:
            raise _read_twice()
        self._pipeline.was_read()
        return rows


def _read_twice() -> EngineError:
    return EngineError("a ticket's result is read once", code="engine.ticket_read")
