"""Frames that a decoder left on the GPU, through the pipeline: filled up and ordered there.

The device is a double whose streams work as late as they can.
"""

from __future__ import annotations

import weakref

import numpy as np
import numpy.typing as npt
import pytest

from engines.cuda.pipeline import Pipeline
from engines.cuda.slots import Slot, SlotRing
from reelsight.engine.fake import FakeEngine, fake_spec
from reelsight.errors import EngineError
from tests.engines.cuda.host_device import HostDevice
from tests.engines.cuda.sum_lane import SumLane

FRAME = 64 * 64 * 3

Frames = npt.NDArray[np.uint8]


def noise(n: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (n, 64, 64, 3), np.uint8)


def rows_of(frames: Frames) -> npt.NDArray[np.float32]:
    return FakeEngine(fake_spec(buckets=(len(frames),))).run(frames)


class LateBatch:
    """Frames that are written to the device when somebody waits for it, and not before."""

    def __init__(self, device: HostDevice, frames: Frames) -> None:
        self._device, self._count = device, len(frames)
        self._memory = device.memory(frames.nbytes)
        self._stream, self._written = device.stream(), device.event()
        lying = device.buffers[self._memory.address]
        self._stream.do(lambda: np.copyto(lying, frames.reshape(-1)))
        self._written.record(self._stream)
        self.puts: list[tuple[int, int, int]] = []
        self.fail: str | None = None

    def __len__(self) -> int:
        return self._count

    def put(self, ring: SlotRing, start: int, count: int, bucket: int) -> Slot:
        self.puts.append((start, count, bucket))

        def fill(slot: Slot) -> None:
            if self.fail is not None:
                raise EngineError("refused as told", code=self.fail)
            slot.stream.wait_for(self._written)
            slot.stream.do(lambda: self._copy(slot, start, count, bucket))  # type: ignore[attr-defined]

        return ring.take_filled(fill)

    def free(self) -> None:
        self._stream.run()
        for part in (self._memory, self._stream, self._written):
            part.free()

    def _copy(self, slot: Slot, start: int, count: int, bucket: int) -> None:
        to = self._device.buffers[slot.device_in.address]
        lying = self._device.buffers[self._memory.address]
        to[: count * FRAME] = lying[start * FRAME : (start + count) * FRAME]
        to[count * FRAME : bucket * FRAME] = 0


class Lent:
    """A batch that can be seen to go."""

    def __init__(self, batch: LateBatch) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return len(self._batch)

    def put(self, ring: SlotRing, start: int, count: int, bucket: int) -> Slot:
        return self._batch.put(ring, start, count, bucket)


@pytest.mark.parametrize(("n", "bucket"), [(1, 2), (2, 2), (3, 4), (5, 8), (8, 8)])
def test_any_number_is_filled_up_and_gives_its_own_rows(
    pipeline: Pipeline[SumLane], device: HostDevice, n: int, bucket: int
) -> None:
    frames = noise(n)
    batch = LateBatch(device, frames)
    rows = pipeline.submit_batch(batch).result()
    np.testing.assert_array_equal(rows, rows_of(frames))
    assert batch.puts == [(0, n, bucket)]
    assert "copy_in" not in device.calls, "nothing goes through the host"
    batch.free()


def test_they_take_turns_with_batches_from_the_host(
    pipeline: Pipeline[SumLane], device: HostDevice
) -> None:
    lying, given = noise(3, 1), noise(4, 2)
    batch = LateBatch(device, lying)
    first, second = pipeline.submit_batch(batch), pipeline.submit(given)
    third = pipeline.submit_batch(batch)
    with pytest.raises(EngineError) as caught:
        pipeline.submit_batch(batch)
    assert caught.value.code == "engine.slots_full"
    np.testing.assert_array_equal(third.result(), rows_of(lying))
    np.testing.assert_array_equal(second.result(), rows_of(given))
    np.testing.assert_array_equal(first.result(), rows_of(lying))
    batch.free()


def test_a_bucket_that_was_given_up_runs_in_parts_on_the_device(
    pipeline: Pipeline[SumLane], lanes: dict[int, SumLane], device: HostDevice
) -> None:
    lanes[8].refuse = lanes[4].refuse = "engine.out_of_memory"
    frames = noise(5)
    batch = LateBatch(device, frames)
    np.testing.assert_array_equal(pipeline.submit_batch(batch).result(), rows_of(frames))
    assert batch.puts == [(0, 5, 8), (0, 4, 4), (0, 2, 2), (2, 2, 2), (4, 1, 2)]
    assert "copy_in" not in device.calls
    batch.free()


@pytest.mark.parametrize("n", [0, 9])
def test_what_no_bucket_holds_is_refused(
    pipeline: Pipeline[SumLane], device: HostDevice, n: int
) -> None:
    batch = LateBatch(device, noise(n))
    with pytest.raises(EngineError, match=f"batch of {n} is beyond") as caught:
        pipeline.submit_batch(batch)
    assert caught.value.code == "engine.bad_batch"
    batch.free()


def test_a_batch_that_cannot_be_copied_costs_no_slot(
    pipeline: Pipeline[SumLane], device: HostDevice
) -> None:
    batch = LateBatch(device, noise(2))
    batch.fail = "engine.failed"
    for _ in range(5):
        with pytest.raises(EngineError, match="refused as told"):
            pipeline.submit_batch(batch)
    batch.fail = None
    np.testing.assert_array_equal(pipeline.submit_batch(batch).result(), rows_of(noise(2)))
    batch.free()


def test_frames_are_kept_until_their_rows_were_read(
    pipeline: Pipeline[SumLane], device: HostDevice
) -> None:
    """A decoder's memory goes to its next clip as soon as nobody holds the frames."""
    batch = LateBatch(device, noise(2))
    lent = Lent(batch)
    held = weakref.ref(lent)
    ticket = pipeline.submit_batch(lent)
    del lent
    assert held() is not None
    ticket.result()
    assert held() is None
    batch.free()
