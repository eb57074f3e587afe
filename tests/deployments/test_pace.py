"""How long a clip would take, by the pace of those before it."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import numpy.typing as npt
import pytest

from deployments.banks.recent import RecentFrames
from deployments.decode_lane import DecodeLane
from deployments.engine_door import EngineDoor
from deployments.pace import Pace
from deployments.service import TaggingService, TagJob
from deployments.turns import Turns
from reelsight.errors import Overloaded
from reelsight.media.decoder import InProcess
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(pace: Pace, clock: Clock, ends: int, every_s: float) -> None:
    """Clips that end at a steady pace, each followed by another."""
    for _ in range(ends):
        clock.now += every_s
        pace.leave()
        pace.enter()


def test_it_is_what_waits_over_the_pace_at_which_clips_end() -> None:
    clock = Clock()
    pace = Pace(width=2, max_wait_s=3.0, clock=clock)
    assert (pace.expected_s, pace.full) == (0.0, False)
    for _ in range(100):  # Nothing is known: nothing is refused.
        pace.enter()
        assert not pace.full
    run(pace, clock, 50, 0.02)
    assert pace.expected_s == pytest.approx(101 * 0.02, rel=0.01)
    assert not pace.full
    run(pace, clock, 500, 0.04)
    assert pace.expected_s == pytest.approx(101 * 0.04, rel=0.05)  # What was is forgotten.
    assert pace.full


def test_as_many_as_are_worked_on_may_wait_however_slow_they_are() -> None:
    clock = Clock()
    pace = Pace(width=2, max_wait_s=3.0, clock=clock)
    for _ in range(4):
        pace.enter()
    run(pace, clock, 20, 10.0)
    assert pace.expected_s == pytest.approx(50.0)
    assert pace.full
    pace.leave()
    assert not pace.full


def test_an_idle_door_slows_no_pace() -> None:
    clock = Clock()
    pace = Pace(width=1, max_wait_s=1.0, clock=clock)
    pace.enter()
    run(pace, clock, 10, 0.1)
    before = pace.expected_s
    pace.leave()
    clock.now += 1000.0  # Nobody came.
    for _ in range(3):
        pace.enter()
        clock.now += 5.0  # One alone: how long it takes says nothing of a queue.
        pace.leave()
    pace.enter()
    assert pace.expected_s == pytest.approx(before)


class Held(EngineDoor):
    """An engine that answers when it is told to."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.asked: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def embed(
        self, pixels: npt.NDArray[np.uint8], *, deadline: float | None, patient: bool = False
    ) -> npt.NDArray[np.float32]:
        del deadline, patient
        answer = asyncio.Event()
        self.asked.put_nowait(answer)
        await answer.wait()
        return np.ones((len(pixels), self.spec.dim), dtype=np.float32)

    async def stalled_s(self) -> float:
        return 0.0


def test_a_clip_that_would_take_too_long_is_refused_and_a_job_is_not(
    fake_plan: TaggingPlan, samples: list[SampleClip]
) -> None:
    clock, clip = Clock(), samples[0].path.read_bytes()

    async def run() -> None:
        engine = Held(fake_plan.spec)
        lane = DecodeLane(InProcess(), Turns.shared(1, 0.5), 64)
        pace = Pace(lane.width, 2.0, clock)
        recent = RecentFrames(0, fake_plan.spec.dim)
        service = TaggingService(fake_plan, lane, engine, recent, pace=pace)

        def tag(background: bool = False) -> asyncio.Task[object]:
            job = TagJob("c", clip, time.monotonic() + 60, background=background)
            return asyncio.create_task(service.tag(job))

        try:
            first = [tag() for _ in range(4)]
            answers = [await engine.asked.get() for _ in first]
            for answer in answers[:2]:
                clock.now += 1.0
                answer.set()
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
                first = [task for task in first if not task.done()]
            assert service.full
            with pytest.raises(Overloaded, match=r"expected to take 3\.0 s") as caught:
                await tag()
            assert caught.value.code == "decode.overloaded"
            later = tag(background=True)
            answers.append(await engine.asked.get())
            for answer in answers[2:]:
                answer.set()
            await asyncio.gather(*first, later)
            assert not service.full
        finally:
            lane.close()

    asyncio.run(run())
