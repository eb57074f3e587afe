"""The pipeline over lanes made by hand: tickets, the order of work, and memory that runs out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from engines.cuda.pipeline import Pipeline, open_largest_first
from reelsight.engine.fake import FakeEngine, fake_spec
from reelsight.errors import EngineError
from tests.engines.cuda.host_device import HostDevice
from tests.engines.cuda.sum_lane import SPEC, SumLane

MEMORY = "engine.out_of_memory"


def pictures(n: int, mark: int) -> npt.NDArray[np.uint8]:
    frames = np.random.default_rng(mark).integers(0, 256, (n, 64, 64, 3), np.uint8)
    frames[:, 0, 0, 0] = mark
    return frames


def rows_of(frames: npt.NDArray[np.uint8]) -> bytes:
    return FakeEngine(fake_spec(buckets=(len(frames),))).run(frames).tobytes()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_three_tickets_are_computed_in_turn_and_read_in_any_order(
    pipeline: Pipeline[SumLane], lanes: dict[int, SumLane], order: tuple[int, ...]
) -> None:
    frames = [pictures(4, mark) for mark in (1, 2, 3)]
    expected = [rows_of(batch) for batch in frames]
    tickets = [pipeline.submit(batch) for batch in frames]
    for batch in frames:
        batch[:] = 0  # The caller's own again: it was copied.
    with pytest.raises(EngineError) as caught:
        pipeline.submit(pictures(4, 4))
    assert caught.value.code == "engine.slots_full"
    for i in order:
        assert tickets[i].result().tobytes() == expected[i]
    assert lanes[4].computed == [1, 2, 3]
    with pytest.raises(EngineError) as caught:
        tickets[0].result()
    assert caught.value.code == "engine.ticket_read"


@pytest.mark.parametrize(("bucket", "slept"), [(2, False), (16, True)])
def test_the_end_of_a_few_frames_is_watched_and_that_of_many_slept_through(
    device: HostDevice, bucket: int, *, slept: bool
) -> None:
    device.reached_after = 3
    spec = fake_spec(buckets=(bucket,))
    pipeline = Pipeline(spec, device, [SumLane(device, bucket)], slots=1)
    frames = pictures(bucket, 1)
    assert pipeline.submit(frames).result().tobytes() == rows_of(frames)
    assert ("wait" in device.calls) == slept
    pipeline.close()


def test_a_few_frames_that_take_long_are_slept_through(
    pipeline: Pipeline[SumLane], device: HostDevice
) -> None:
    frames = pictures(2, 1)
    assert pipeline.submit(frames).result().tobytes() == rows_of(frames)
    assert "wait" in device.calls


def test_a_bucket_is_given_up_when_memory_runs_out_and_its_batches_run_in_parts(
    pipeline: Pipeline[SumLane], lanes: dict[int, SumLane]
) -> None:
    flying = pipeline.submit(pictures(2, 1))
    lanes[4].refuse = MEMORY
    whole = pictures(8, 2)
    assert pipeline.submit(pictures(4, 3)).result().tobytes() == rows_of(pictures(4, 3))
    assert [lane.bucket for lane in pipeline.lanes] == [2]
    assert lanes[8].closed, "larger ones go too"
    assert pipeline.submit(whole).result().tobytes() == rows_of(whole)
    assert flying.result().tobytes() == rows_of(pictures(2, 1))
    lanes[2].refuse = MEMORY
    with pytest.raises(EngineError) as caught:
        pipeline.submit(whole)
    assert caught.value.code == MEMORY


def test_a_part_that_does_not_fill_a_bucket_is_filled_up(
    device: HostDevice, lanes: dict[int, SumLane]
) -> None:
    spec = fake_spec(buckets=(2, 4, 7))
    odd = {2: lanes[2], 4: lanes[4], 7: SumLane(device, 7)}
    pipeline = Pipeline(spec, device, odd.values(), slots=2)
    odd[7].refuse = MEMORY
    frames = pictures(7, 5)
    assert pipeline.submit(frames).result().tobytes() == rows_of(frames)
    assert (len(odd[4].computed), len(odd[2].computed)) == (2, 0)
    pipeline.close()


def test_another_failure_costs_one_batch_and_no_bucket(
    pipeline: Pipeline[SumLane], lanes: dict[int, SumLane]
) -> None:
    lanes[4].refuse = "engine.failed"
    for _ in range(4):
        with pytest.raises(EngineError, match="refused as told"):
            pipeline.submit(pictures(4, 1))
    lanes[4].refuse = None
    assert pipeline.submit(pictures(4, 2)).result().tobytes() == rows_of(pictures(4, 2))
    assert len(pipeline.lanes) == 3


def test_slots_are_of_the_largest_bucket_that_memory_holds(
    device: HostDevice, lanes: dict[int, SumLane]
) -> None:
    device.fail["memory"] = {2}
    pipeline = Pipeline(SPEC, device, lanes.values(), slots=2)
    assert [lane.bucket for lane in pipeline.lanes] == [2, 4]
    assert lanes[8].closed
    pipeline.close()


def test_lanes_are_closed_when_not_even_the_smallest_slots_fit(
    device: HostDevice, lanes: dict[int, SumLane]
) -> None:
    device.fail["pinned"] = {1, 2, 3}
    with pytest.raises(EngineError) as caught:
        Pipeline(SPEC, device, lanes.values(), slots=2)
    assert caught.value.code == MEMORY
    assert all(lane.closed for lane in lanes.values())


class Memory:
    """Opens lanes as long as the open ones and the next one fit."""

    def __init__(self, device: HostDevice, room: int) -> None:
        self._device, self._room = device, room
        self.opened: list[SumLane] = []

    def open(self, bucket: int) -> SumLane:
        taken = sum(lane.bucket for lane in self.opened if not lane.closed)
        if taken + bucket > self._room:
            raise EngineError("does not fit", code=MEMORY)
        self.opened.append(SumLane(self._device, bucket))
        return self.opened[-1]


@pytest.mark.parametrize(
    ("room", "fit"), [(14, [8, 4, 2]), (13, [4, 2]), (12, [4, 2]), (6, [4, 2]), (5, [2]), (2, [2])]
)
def test_the_largest_lanes_make_way_for_the_smaller_ones(
    device: HostDevice, room: int, fit: list[int]
) -> None:
    memory = Memory(device, room)
    lanes = open_largest_first((2, 4, 8), memory.open)
    assert [lane.bucket for lane in lanes] == fit
    assert [lane.bucket for lane in memory.opened if not lane.closed] == fit


def test_when_no_lane_fits_nothing_stays_open(device: HostDevice) -> None:
    memory = Memory(device, 1)
    with pytest.raises(EngineError) as caught:
        open_largest_first((2, 4, 8), memory.open)
    assert caught.value.code == MEMORY
    assert not memory.opened


def test_another_failure_closes_what_was_opened(device: HostDevice) -> None:
    memory = Memory(device, 14)

    def broken(bucket: int) -> SumLane:
        if bucket == 2:
            raise EngineError("the file is damaged", code="engine.unloadable")
        return memory.open(bucket)

    with pytest.raises(EngineError) as caught:
        open_largest_first((2, 4, 8), broken)
    assert caught.value.code == "engine.unloadable"
    assert len(memory.opened) == 2
    assert all(lane.closed for lane in memory.opened)
