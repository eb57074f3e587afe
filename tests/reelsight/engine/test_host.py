from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import suppress

import numpy as np
import numpy.typing as npt
import pytest

from reelsight.engine import EngineHost, FakeEngine, fake_spec
from reelsight.errors import EngineError, Overloaded


def pictures(n: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)


class GatedEngine(FakeEngine):
    """Runs only while the gate is open; remembers its batches."""

    def __init__(self) -> None:
        super().__init__(fake_spec(buckets=(4, 8)))
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.poison: int | None = None
        self.closed = False

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(20)
        self.batches.append(len(pixels))
        if self.poison is not None and (pixels[:, 0, 0, 0] == self.poison).any():
            raise RuntimeError("poisoned frame")
        return super().run(pixels)

    def close(self) -> None:
        self.closed = True


def submit_for_ever(host: EngineHost) -> None:
    while True:
        with suppress(Overloaded):
            host.submit(pictures(1), timeout=0.01)


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def host(engine: GatedEngine) -> Iterator[EngineHost]:
    host = EngineHost(engine, max_queued_frames=16)
    yield host
    engine.gate.set()
    host.close()


def test_answers_do_not_depend_on_how_frames_were_grouped() -> None:
    frames = pictures(21)
    with_one = EngineHost(FakeEngine(fake_spec(buckets=(4,))))
    with_many = EngineHost(FakeEngine(fake_spec(buckets=(4, 8, 32))))
    alone = np.concatenate([with_one.run(frames[i : i + 1]) for i in range(21)])
    together = with_many.run(frames)
    with_one.close()
    with_many.close()
    assert alone.tobytes() == together.tobytes()


def test_a_busy_engine_fills_its_own_batches(host: EngineHost, engine: GatedEngine) -> None:
    first = host.submit(pictures(1))
    assert engine.entered.wait(20)
    waiting = [host.submit(pictures(1, seed)) for seed in range(8)]
    engine.gate.set()
    for future in [first, *waiting]:
        assert future.result(20).shape == (1, 32)
    assert engine.batches == [4, 8]
    assert host.stats.batches == 2
    assert host.stats.frames == 9
    assert host.stats.padded == 3
    assert host.stats.busy_s > 0


def test_an_oversize_request_is_split_and_put_together(
    host: EngineHost, engine: GatedEngine
) -> None:
    engine.gate.set()
    frames = pictures(21)
    rows = host.run(frames)
    expected = np.concatenate([host.run(frames[i : i + 4]) for i in range(0, 21, 4)])
    assert rows.tobytes() == expected.tobytes()
    # The last five would fill five eighths of a bucket: four and one waste less.
    assert engine.batches[:4] == [8, 8, 4, 4]


def test_a_failing_request_leaves_its_batch_neighbours_alone(
    host: EngineHost, engine: GatedEngine
) -> None:
    engine.poison = 201
    bad_pixels = pictures(1)
    bad_pixels[0, 0, 0, 0] = 201
    good_pixels = pictures(1, 1)
    good_pixels[0, 0, 0, 0] = 7
    first = host.submit(good_pixels)
    assert engine.entered.wait(20)
    bad, good = host.submit(bad_pixels), host.submit(good_pixels)
    engine.gate.set()
    assert good.result(20).tobytes() == first.result(20).tobytes()
    with pytest.raises(EngineError, match="poisoned frame"):
        bad.result(20)
    assert host.run(good_pixels).shape == (1, 32)


def test_a_full_queue_says_so_at_once(host: EngineHost, engine: GatedEngine) -> None:
    host.submit(pictures(4))
    assert engine.entered.wait(20)
    host.submit(pictures(16))
    with pytest.raises(Overloaded, match="16 frames wait, the limit is 16") as caught:
        host.submit(pictures(1), timeout=0)
    assert caught.value.retryable
    assert caught.value.http_status == 503


def test_cancelled_and_late_requests_are_dropped_before_they_run(
    host: EngineHost, engine: GatedEngine
) -> None:
    host.submit(pictures(4))
    assert engine.entered.wait(20)
    cancelled = host.submit(pictures(4))
    late = host.submit(pictures(4), deadline=time.monotonic() - 1)
    wanted = host.submit(pictures(4))
    assert cancelled.cancel()
    engine.gate.set()
    assert wanted.result(20).shape == (4, 32)
    with pytest.raises(CancelledError):
        cancelled.result(20)
    with pytest.raises(Overloaded, match="deadline") as caught:
        late.result(20)
    assert caught.value.code == "engine.deadline"
    assert engine.batches == [4, 4]


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((0, 64, 64, 3), np.uint8),
        np.zeros((1, 32, 32, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((1, 64, 64, 3), np.float32),
    ],
)
def test_wrong_pixels_are_refused_before_they_are_queued(
    host: EngineHost, bad: npt.NDArray[np.uint8]
) -> None:
    with pytest.raises(EngineError) as caught:
        host.submit(bad)
    assert caught.value.code == "engine.bad_input"


def test_an_engine_that_gives_nan_is_an_error_not_an_answer() -> None:
    class Broken(FakeEngine):
        def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            return np.full((len(pixels), 32), np.nan, dtype=np.float32)

    host = EngineHost(Broken())
    with pytest.raises(EngineError) as caught:
        host.run(pictures(2))
    host.close()
    assert caught.value.code == "engine.not_finite"


def test_close_fails_what_waits_and_closes_the_engine(
    host: EngineHost, engine: GatedEngine
) -> None:
    running = host.submit(pictures(4))
    assert engine.entered.wait(20)
    waiting = host.submit(pictures(4))
    closer = threading.Thread(target=host.close)
    closer.start()
    with pytest.raises(EngineError, match="closed"):  # Refused while the last batch still runs.
        submit_for_ever(host)
    engine.gate.set()
    closer.join(20)
    assert running.result(20).shape == (4, 32)
    with pytest.raises(EngineError, match="closed"):
        waiting.result(20)
    assert engine.closed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_leaves_nobody_waiting() -> None:
    class Dying(FakeEngine):
        def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            raise SystemExit("the thread goes with its engine")

    host = EngineHost(Dying())
    with pytest.raises(EngineError, match="closed"):
        host.submit(pictures(2)).result(20)
    with pytest.raises(EngineError, match="closed"):
        host.submit(pictures(2))
    host.close()


def test_an_observer_hears_of_every_wait_and_batch() -> None:
    class Ear:
        def __init__(self) -> None:
            self.waits: list[float] = []
            self.batches: list[tuple[int, int, float]] = []
            self.answers: list[float] = []

        def waited(self, seconds: float) -> None:
            self.waits.append(seconds)

        def ran(self, frames: int, bucket: int, seconds: float) -> None:
            self.batches.append((frames, bucket, seconds))

        def embedded(self, seconds: float) -> None:
            self.answers.append(seconds)

    ear = Ear()
    host = EngineHost(FakeEngine(), observer=ear)
    size = host.spec.geometry.size
    for n in (1, 40):
        host.run(np.zeros((n, size, size, 3), np.uint8))
    host.close()
    assert len(ear.waits) == 2  # One a request, though the second is split.
    assert min(ear.waits) >= 0
    assert [(frames, bucket) for frames, bucket, _ in ear.batches] == [(1, 2), (32, 32), (8, 8)]
    assert sum(seconds for *_, seconds in ear.batches) == pytest.approx(host.stats.busy_s)
    runs = [seconds for *_, seconds in ear.batches]
    assert ear.answers[0] >= ear.waits[0] + runs[0]
    assert ear.answers[1] >= ear.waits[1] + runs[1] + runs[2]
    assert len(ear.answers) == 2
    assert host.queued_frames == 0
