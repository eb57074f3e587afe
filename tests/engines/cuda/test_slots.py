"""The ring of slots: order of work, life of buffers, and what happens when memory runs out."""

from __future__ import annotations

import numpy as np
import pytest

from engines.cuda.slots import SlotRing
from reelsight.errors import EngineError
from tests.engines.cuda.host_device import POISON, HostDevice


def test_a_batch_goes_in_and_comes_out_in_order() -> None:
    device = HostDevice()
    with device.current():
        ring = SlotRing(device, count=2, bytes_in=64, bytes_out=64)
        batch = np.arange(48, dtype=np.uint8).reshape(2, 24)
        slot = ring.take(batch)
        sent = batch.copy()
        batch[:] = 0
        source, result = (device.buffers[m.address] for m in (slot.device_in, slot.device_out))
        assert (source == POISON).all(), "the copy has not been waited for"
        slot.stream.do(lambda: np.copyto(result[:48], source[:48][::-1]))  # type: ignore[attr-defined]
        ring.send_back(slot, 48)
        assert (slot.host_out.array == POISON).all()
        slot.done.wait()
        assert slot.host_out.array[:48].tolist() == sent.reshape(-1)[::-1].tolist()
        assert (slot.host_out.array[48:] == POISON).all()
        ring.close()
    assert device.live == 0


def test_several_threads_copy_the_same_bytes() -> None:
    device = HostDevice()
    batch = np.random.default_rng(0).integers(0, 256, (5 << 20) + 3, np.uint8)
    with device.current():
        ring = SlotRing(device, count=1, bytes_in=batch.nbytes, bytes_out=1, copy_threads=4)
        slot = ring.take(batch)
        assert np.array_equal(slot.host_in.array, batch)
        ring.close()
    assert device.live == 0


def test_slots_are_refused_when_all_are_in_flight_and_come_back() -> None:
    device = HostDevice()
    with device.current():
        ring = SlotRing(device, count=2, bytes_in=8, bytes_out=8)
        first, second = (ring.take(np.zeros(8, np.uint8)) for _ in range(2))
        with pytest.raises(EngineError, match="all 2 slots") as caught:
            ring.take(np.zeros(8, np.uint8))
        assert caught.value.code == "engine.slots_full"
        ring.give_back(second)
        assert ring.take(np.zeros(8, np.uint8)) is second
        ring.give_back(first)
        ring.close()


def test_a_slot_whose_copy_fails_is_free_again() -> None:
    device = HostDevice()
    with device.current():
        ring = SlotRing(device, count=1, bytes_in=8, bytes_out=8)
        device.fail["copy_in"] = {1}
        with pytest.raises(EngineError, match="copy_in failed"):
            ring.take(np.zeros(8, np.uint8))
        ring.take(np.zeros(8, np.uint8))
        ring.close()


@pytest.mark.parametrize("kind", ["pinned", "memory", "event"])
@pytest.mark.parametrize("ordinal", [1, 2, 3, 4])
def test_nothing_stays_allocated_when_memory_runs_out(kind: str, ordinal: int) -> None:
    device = HostDevice()
    device.fail[kind] = {ordinal}
    with device.current(), pytest.raises(EngineError) as caught:
        SlotRing(device, count=2, bytes_in=8, bytes_out=8)
    assert caught.value.code == "engine.out_of_memory"
    assert device.live == 0
    assert device.buffers == {}


def test_close_waits_before_it_frees_and_can_be_repeated() -> None:
    device = HostDevice()
    with device.current():
        ring = SlotRing(device, count=2, bytes_in=8, bytes_out=8)
        ring.take(np.zeros(8, np.uint8))
        device.calls.clear()
        ring.close()
        assert device.calls[:2] == ["synchronize", "synchronize"]
        assert device.calls.count("free:memory") == device.calls.count("free:pinned") == 4
        ring.close()
    assert device.live == 0


def test_buffers_are_freed_when_the_device_fails_at_the_end() -> None:
    device = HostDevice()
    with device.current():
        ring = SlotRing(device, count=1, bytes_in=8, bytes_out=8)
        device.fail["synchronize"] = {1}
        with pytest.raises(EngineError, match="synchronize"):
            ring.close()
    assert device.live == 0
