"""The text lane: batches of many requests, and nobody pays for a neighbour."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from deployments.meters import Meters
from deployments.text_lane import TextLane
from reelsight.engine import FakeTextTower
from reelsight.errors import EngineError, ModelError, Overloaded

SOON = 60.0


class Gated(FakeTextTower):
    """A tower that waits for leave, notes its batches, and cannot read one word."""

    def __init__(self) -> None:
        self.leave = threading.Event()
        self.begun = threading.Event()
        self.batches: list[list[str]] = []

    def embed_text(self, phrases: Sequence[str]) -> npt.NDArray[np.float32]:
        if phrases != ["a"]:  # The lane's own first text.
            self.begun.set()
            assert self.leave.wait(30)
            self.batches.append(list(phrases))
            if "bad" in phrases:
                raise UnicodeError("cannot read")
        return super().embed_text(phrases)


@contextmanager
def opened(tower: Gated, max_waiting: int = 1000) -> Iterator[TextLane]:
    lane = TextLane(lambda: tower, max_waiting, Meters())
    try:
        yield lane
    finally:
        tower.leave.set()
        lane.close()


def test_what_waits_is_read_at_once_and_split_again() -> None:
    tower = Gated()
    with opened(tower) as lane:
        deadline = time.monotonic() + SOON
        first = lane.submit(("one",), deadline)
        assert tower.begun.wait(30)
        rest = [lane.submit((f"text {i}", f"more words {i}"), deadline) for i in range(40)]
        tower.leave.set()
        assert first.result(30).tokens == 1
        for i, future in enumerate(rest):
            answer = future.result(30)
            np.testing.assert_array_equal(
                answer.rows, FakeTextTower().embed_text([f"text {i}", f"more words {i}"])
            )
            assert answer.tokens == 5
    assert [len(batch) for batch in tower.batches] == [1, 64, 16]


def test_a_text_that_cannot_be_read_fails_its_own_request() -> None:
    tower = Gated()
    with opened(tower) as lane:
        deadline = time.monotonic() + SOON
        lane.submit(("one",), deadline)
        assert tower.begun.wait(30)
        good, bad, other = (lane.submit((t,), deadline) for t in ("good", "bad", "other"))
        tower.leave.set()
        assert len(good.result(30).rows) == len(other.result(30).rows) == 1
        with pytest.raises(EngineError, match="cannot read"):
            bad.result(30)


def test_what_nobody_waits_for_is_not_read() -> None:
    tower = Gated()
    with opened(tower, max_waiting=3) as lane:
        deadline = time.monotonic() + SOON
        lane.submit(("one",), deadline)
        assert tower.begun.wait(30)
        late = lane.submit(("late",), time.monotonic())
        left = lane.submit(("left",), deadline)
        kept = lane.submit(("kept",), deadline)
        assert lane.waiting == 3
        with pytest.raises(Overloaded, match="3 texts wait"):
            lane.submit(("too many",), deadline)
        assert left.cancel()
        tower.leave.set()
        kept.result(30)
        with pytest.raises(Overloaded, match="deadline"):
            late.result(30)
        assert lane.waiting == 0
    assert tower.batches == [["one"], ["kept"]]


def test_closing_fails_what_waits() -> None:
    tower = Gated()
    lane = TextLane(lambda: tower, 10, Meters())
    running = lane.submit(("one",), time.monotonic() + SOON)
    assert tower.begun.wait(30)
    waiting = lane.submit(("two",), time.monotonic() + SOON)
    closer = threading.Thread(target=lane.close)
    closer.start()
    while not lane._closed:  # The thread has begun to close.
        pass
    tower.leave.set()
    closer.join()
    assert len(running.result(30).rows) == 1
    for late in (lambda: waiting.result(30), lambda: lane.submit(("x",), time.monotonic() + SOON)):
        with pytest.raises(EngineError, match="closed"):
            late()


def test_a_model_without_a_tower_says_so_and_a_damaged_one_opens_nothing() -> None:
    def none() -> FakeTextTower:
        raise ModelError("an image tower alone", code="model.no_text_tower")

    def damaged() -> FakeTextTower:
        raise ModelError("does not match", code="model.damaged")

    lane = TextLane(none, 10, Meters())
    with pytest.raises(ModelError, match="alone"):
        lane.submit(("x",), time.monotonic() + SOON)
    lane.close()
    with pytest.raises(ModelError, match="does not match"):
        TextLane(damaged, 10, Meters())
