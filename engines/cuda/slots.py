"""A ring of slots: buffers that let one batch be copied in while another is computed.

A slot is {pinned host in, device in, device out, pinned host out, stream, events}. The ring hands
them out, moves bytes, and takes them back; what runs between the two copies is its user's business,
TensorRT's as well as another runtime's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.cuda.device import (
    CudaDevice,
    CudaEvent,
    CudaStream,
    DeviceMemory,
    PinnedMemory,
)
from reelsight.errors import EngineError

__all__ = ["Slot", "SlotRing"]

# Below this a second thread costs more than it copies.
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Slot:
    """Buffers and a stream for one batch in flight.

    Attributes:
        index: Place in the ring; what users key their graphs by.
        host_in, host_out: Page-locked.
        device_in, device_out: On the GPU.
        stream: Everything of this batch is enqueued here, in order.
        computed: Recorded when the batch's computing ends.
        done: Recorded behind the copy out.
    """

    index: int
    host_in: PinnedMemory
    device_in: DeviceMemory
    device_out: DeviceMemory
    host_out: PinnedMemory
    stream: CudaStream
    computed: CudaEvent
    done: CudaEvent


class SlotRing:
    """Slots of one size. Not thread-safe: it belongs to the thread that owns the engine.

    Args:
        device: Where the buffers are; its context is current in every call.
        count: How many batches can be in flight, 1 or more.
        bytes_in: Largest input of a batch.
        bytes_out: Largest output of a batch.
        copy_threads: Threads that copy a batch into page-locked memory: one core moves about
            10 GB/s, and a GPU takes more.

    Raises:
        EngineError: `engine.out_of_memory`; nothing stays allocated.
    """

    def __init__(
        self,
        device: CudaDevice,
        *,
        count: int,
        bytes_in: int,
        bytes_out: int,
        copy_threads: int = 1,
    ) -> None:
        self._device = device
        self._copy_threads = copy_threads
        with ExitStack() as undo:
            self._copiers: ThreadPoolExecutor | None = None
            if copy_threads > 1:
                self._copiers = ThreadPoolExecutor(copy_threads, "copy-in")
                undo.callback(self._copiers.shutdown)
            self._slots = tuple(
                _slot(device, index, bytes_in, bytes_out, undo) for index in range(count)
            )
            self._memory = undo.pop_all()
        self._free = deque(self._slots)

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """All of them, free or not."""
        return self._slots

    def take(self, batch: npt.NDArray[np.uint8]) -> Slot:
        """Copy a batch into the next free slot and start its way to the GPU.

        Args:
            batch: uint8, any shape, C-contiguous; copied before this returns.

        Raises:
            EngineError: `engine.slots_full` when every slot is in flight.
        """

        def fill(slot: Slot) -> None:
            self._fill(slot.host_in.array[: batch.nbytes], batch.reshape(-1))
            self._device.copy_in(slot.device_in, slot.host_in, batch.nbytes, slot.stream)

        return self.take_filled(fill)

    def take_filled(self, fill: Callable[[Slot], None]) -> Slot:
        """Hand out the next free slot after `fill` enqueued into its stream what is its input.

        Raises:
            EngineError: `engine.slots_full`; what `fill` says, and the slot is free again.
        """
        if not self._free:
            raise self.full()
        slot = self._free.popleft()
        try:
            fill(slot)
        except BaseException:
            self.give_back(slot)
            raise
        return slot

    def full(self) -> EngineError:
        """What a batch too many is refused with."""
        return EngineError(
            f"all {len(self._slots)} slots hold batches whose results were not read",
            code="engine.slots_full",
            hint="Read a ticket's result before submitting the next batch.",
        )

    def send_back(self, slot: Slot, nbytes: int) -> None:
        """Enqueue the copy of the slot's output to the host, after its computing."""
        self._device.copy_out(slot.host_out, slot.device_out, nbytes, slot.stream)
        slot.done.record(slot.stream)

    def give_back(self, slot: Slot) -> None:
        """Free a slot for the next batch; the GPU has finished with it or failed."""
        self._free.append(slot)

    def drain(self) -> None:
        """Wait for everything that is in flight; its results stay readable."""
        for slot in self._slots:
            slot.stream.synchronize()

    def close(self) -> None:
        """Wait for what is in flight and free the buffers; idempotent."""
        try:
            self.drain()
        finally:
            self._slots = ()
            self._free.clear()
            self._memory.close()

    def _fill(self, to: npt.NDArray[np.uint8], batch: npt.NDArray[np.uint8]) -> None:
        """Copy bytes; numpy lets other threads run meanwhile."""
        parts = min(self._copy_threads, -(-batch.nbytes // _COPY_BYTES))
        if self._copiers is None or parts < 2:
            np.copyto(to, batch)
            return
        step = -(-batch.nbytes // parts)
        starts = range(0, batch.nbytes, step)
        list(
            self._copiers.map(
                lambda at: np.copyto(to[at : at + step], batch[at : at + step]), starts
            )
        )


def _slot(device: CudaDevice, index: int, bytes_in: int, bytes_out: int, undo: ExitStack) -> Slot:
    host_in = device.pinned(bytes_in)
    undo.callback(host_in.free)
    device_in = device.memory(bytes_in)
    undo.callback(device_in.free)
    device_out = device.memory(bytes_out)
    undo.callback(device_out.free)
    host_out = device.pinned(bytes_out)
    undo.callback(host_out.free)
    stream = device.stream()
    undo.callback(stream.free)
    computed = device.event()
    undo.callback(computed.free)
    done = device.event()
    undo.callback(done.free)
    return Slot(index, host_in, device_in, device_out, host_out, stream, computed, done)
