"""The host over an engine with tickets: batches in flight, their failures, and the end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest

from reelsight.engine import EngineHost, FakeEngine, fake_spec
from reelsight.engine.protocol import PipelinedEngine
from reelsight.errors import EngineError, Overloaded

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]
LONG = 20.0


def pictures(n: int, mark: int) -> Pixels:
    """Frames whose first value tells which they are."""
    frames = np.random.default_rng(mark).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
    frames[:, 0, 0, 0] = mark
    return frames


class TicketEngine(FakeEngine):
    """Takes batches at once and holds their results until the gate opens.

    Attributes:
        log: What was done, in order: `in 7` and `out 7` for the batch whose first frame is 7.
        refused, failing: Marks of frames whose batch fails on its way in, or out.
        unread: Batches in flight.
        most: Most of them at a time.
    """

    slots = 2

    def __init__(self) -> None:
        super().__init__(fake_spec(buckets=(4, 8)))
        self.gate = threading.Event()
        self.reading = threading.Event()
        self.full = threading.Event()
        self.log: deque[str] = deque()
        self.refused: set[int] = set()
        self.failing: set[int] = set()
        self.unread = self.most = 0
        self.closed = False

    def submit(self, pixels: Pixels) -> HeldTicket:
        assert not self.closed
        assert self.unread < self.slots
        self.log.append(f"in {pixels[0, 0, 0, 0]}")
        if self.refused.intersection(pixels[:, 0, 0, 0].tolist()):
            raise EngineError("refused on the way in")
        self.unread += 1
        self.most = max(self.most, self.unread)
        if self.unread == self.slots:
            self.full.set()
        return HeldTicket(self, pixels.copy())

    def run(self, pixels: Pixels) -> Rows:
        return self.submit(pixels).result()

    def close(self) -> None:
        assert self.unread == 0, "closed with results that nobody read"
        self.closed = True


class HeldTicket:
    def __init__(self, engine: TicketEngine, pixels: Pixels) -> None:
        self._engine, self._pixels = engine, pixels

    def result(self) -> Rows:
        engine, marks = self._engine, self._pixels[:, 0, 0, 0]
        engine.reading.set()
        assert engine.gate.wait(LONG)
        engine.unread -= 1
        engine.log.append(f"out {marks[0]}")
        if engine.failing.intersection(marks.tolist()):
            raise EngineError("failed on the way out") from RuntimeError("the device")
        return FakeEngine.run(engine, self._pixels)


def submit_for_ever(host: EngineHost) -> None:
    while True:
        with suppress(Overloaded):
            host.submit(pictures(1, 4), timeout=0.01)


@pytest.fixture
def engine() -> TicketEngine:
    return TicketEngine()


@pytest.fixture
def host(engine: TicketEngine) -> Iterator[EngineHost]:
    host = EngineHost(engine, max_queued_frames=64)
    yield host
    engine.gate.set()
    host.close()


def alone(frames: Pixels) -> Rows:
    """The rows that each frame has by itself: the fake's rows know no neighbours."""
    padded = np.zeros((4, *frames.shape[1:]), np.uint8)
    padded[: len(frames)] = frames
    return FakeEngine(fake_spec(buckets=(4,))).run(padded)[: len(frames)]


def test_two_batches_are_in_flight_and_read_in_order(
    host: EngineHost, engine: TicketEngine
) -> None:
    assert isinstance(engine, PipelinedEngine)
    frames = pictures(32, 1)
    frames[:, 0, 0, 0] = np.arange(32) // 8
    future = host.submit(frames)
    assert engine.full.wait(LONG)
    assert list(engine.log) == ["in 0", "in 1"]
    engine.gate.set()
    rows = future.result(LONG)
    assert list(engine.log) == ["in 0", "in 1", "out 0", "in 2", "out 1", "in 3", "out 2", "out 3"]
    assert rows.tobytes() == b"".join(alone(frames[i : i + 4]).tobytes() for i in range(0, 32, 4))
    assert (host.stats.frames, host.stats.padded, host.stats.batches) == (32, 0, 4)
    assert host.stats.busy_s > 0


def test_a_lone_batch_is_read_at_once(host: EngineHost, engine: TicketEngine) -> None:
    """Nothing waits, so nothing is waited for; what comes meanwhile shares one batch."""
    first = host.submit(pictures(1, 1))
    assert engine.reading.wait(LONG)
    rest = [host.submit(pictures(1, mark)) for mark in (2, 3, 4)]
    engine.gate.set()
    for mark, future in enumerate([first, *rest], start=1):
        assert future.result(LONG).tobytes() == alone(pictures(1, mark)).tobytes()
    assert list(engine.log) == ["in 1", "out 1", "in 2", "out 2"]


@pytest.mark.parametrize("where", ["refused", "failing"])
def test_a_failing_batch_costs_its_own(host: EngineHost, engine: TicketEngine, where: str) -> None:
    """One flies beside it and one behind it; a neighbour in the same batch is run again."""
    getattr(engine, where).add(66)
    before = host.submit(pictures(8, 1))
    assert engine.reading.wait(LONG)
    beside = host.submit(pictures(8, 4))
    bad, neighbour = host.submit(pictures(2, 66)), host.submit(pictures(6, 2))
    behind = host.submit(pictures(8, 3))
    engine.gate.set()
    with pytest.raises(EngineError, match="on the way"):
        bad.result(LONG)
    assert (
        neighbour.result(LONG).tobytes()
        == np.concatenate([alone(pictures(6, 2)[:4]), alone(pictures(6, 2)[4:])]).tobytes()
    )
    for mark, future in ((1, before), (4, beside), (3, behind)):
        whole = pictures(8, mark)
        expected = np.concatenate([alone(whole[:4]), alone(whole[4:])])
        assert future.result(LONG).tobytes() == expected.tobytes()
    assert engine.most == engine.slots
    assert host.run(pictures(1, 9)).shape == (1, 32)


def test_an_error_keeps_what_caused_it(host: EngineHost, engine: TicketEngine) -> None:
    engine.failing.add(5)
    engine.gate.set()
    with pytest.raises(EngineError) as caught:
        host.run(pictures(1, 5))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_close_reads_what_is_in_flight_and_fails_what_waits(
    host: EngineHost, engine: TicketEngine
) -> None:
    flying = host.submit(pictures(16, 1))
    assert engine.full.wait(LONG)
    waiting = host.submit(pictures(16, 3))
    closer = threading.Thread(target=host.close)
    closer.start()
    with pytest.raises(EngineError, match="closed"):  # Refused while two batches still run.
        submit_for_ever(host)
    assert engine.unread == engine.slots
    engine.gate.set()
    closer.join(LONG)
    assert engine.closed
    assert flying.result(LONG).shape == (16, 32)
    with pytest.raises(EngineError, match="closed"):
        waiting.result(LONG)


def test_an_engine_that_cannot_be_closed_says_so() -> None:
    class Stuck(TicketEngine):
        def close(self) -> None:
            raise EngineError("the GPU fell over", code="engine.failed")

    host = EngineHost(Stuck())
    with pytest.raises(EngineError, match="fell over"):
        host.close()
    host.close()
