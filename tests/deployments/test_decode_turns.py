"""Jobs never keep requests from decoding, however many they are and however long they take."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from deployments.decode_lane import DecodeLane
from deployments.turns import Turns
from reelsight.errors import Overloaded
from reelsight.media.decoder import InProcess
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip
from reelsight.steps import ClipRequest


class Blocking(InProcess):
    """Decodes for real; clips called `job` not before they are let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.lock = threading.Lock()
        self.blocked = self.most = 0

    def decode(
        self, clip_id: str, *rest: Any, attempted: Callable[[int], None] | None = None
    ) -> tuple[Clip, Frames]:
        if clip_id == "job":
            with self.lock:
                self.blocked += 1
                self.most = max(self.most, self.blocked)
            assert self.let_go.wait(60)
            with self.lock:
                self.blocked -= 1
        return super().decode(clip_id, *rest)


@pytest.mark.parametrize(
    ("width", "share", "jobs"), [(1, 0.5, 1), (2, 0.5, 1), (2, 1.0, 1), (4, 0.5, 2), (4, 0.0, 1)]
)
def test_a_lane_that_jobs_block_goes_on_for_requests(
    width: int, share: float, jobs: int, samples: list[SampleClip], fake_plan: TaggingPlan
) -> None:
    data = samples[0].path.read_bytes()
    decoder = Blocking()

    async def whole() -> tuple[float, float]:
        lane = DecodeLane(decoder, Turns.shared(width, share), 64)

        async def load(name: str, background: bool) -> float:
            started = time.monotonic()
            request = ClipRequest(name, "upload:")
            loaded = await lane.load(
                request, data, fake_plan, time.monotonic() + 60, background=background
            )
            assert loaded.frames is not None
            return time.monotonic() - started

        async def requests() -> float:
            return max(await asyncio.gather(*(load("request", False) for _ in range(16))))

        alone_s = await requests()
        blocked = [asyncio.create_task(load("job", True)) for _ in range(5 * width)]
        while decoder.blocked < jobs:
            await asyncio.sleep(0.001)
        beside_s = await requests()
        assert not any(job.done() for job in blocked)
        decoder.let_go.set()
        await asyncio.gather(*blocked)
        lane.close()
        return alone_s, beside_s

    alone_s, beside_s = asyncio.run(whole())
    assert decoder.most == jobs
    # Sixteen went through what the jobs left of the lane: never longer than one place would take.
    assert beside_s < 2 * width * alone_s + 1.0


def test_a_request_goes_before_jobs_that_wait() -> None:
    async def whole() -> list[str]:
        turns, order = Turns(3, 3, 2), []

        async def one(name: str, job: bool) -> None:
            await turns.take(job)
            order.append(name)

        for _ in range(3):
            await turns.take(False)
        waiting = [asyncio.create_task(one(f"job{n}", True)) for n in range(2)]
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(one("request", False)))
        await asyncio.sleep(0)
        for _ in range(3):
            turns.give(False)
        await asyncio.gather(*waiting)
        return order

    assert asyncio.run(whole()) == ["request", "job0", "job1"]


def test_whoever_leaves_takes_no_place_along() -> None:
    async def whole() -> None:
        turns = Turns(2, 2, 1)
        await turns.take(True)
        leaving = asyncio.create_task(turns.take(True))
        called = asyncio.create_task(turns.take(True))
        await asyncio.sleep(0)
        leaving.cancel()
        # Called and cancelled in the same moment.
        turns.give(True)
        called.cancel()
        await asyncio.gather(leaving, called, return_exceptions=True)
        assert leaving.cancelled()
        assert called.cancelled()
        await asyncio.wait_for(turns.take(True), 1)
        await asyncio.wait_for(turns.take(False), 1)
        assert turns.full

    asyncio.run(whole())


def test_jobs_that_wait_do_not_fill_the_line_of_requests(
    samples: list[SampleClip], fake_plan: TaggingPlan
) -> None:
    data = samples[0].path.read_bytes()
    decoder = Blocking()

    async def whole() -> None:
        lane = DecodeLane(decoder, Turns.shared(2, 0.5), 1)

        def load(name: str, background: bool) -> asyncio.Task[Any]:
            return asyncio.create_task(
                lane.load(
                    ClipRequest(name, "upload:"),
                    data,
                    fake_plan,
                    time.monotonic() + 60,
                    background=background,
                )
            )

        jobs = [load("job", True) for _ in range(8)]
        while not decoder.blocked:
            await asyncio.sleep(0.001)
        assert lane.waiting == 0
        # A request that blocks: the lane is full, one more may wait, and the next is refused.
        held, waits, refused = (load(name, False) for name in ("job", "request", "request"))
        with pytest.raises(Overloaded):
            await refused
        decoder.let_go.set()
        await asyncio.gather(held, waits, *jobs)
        lane.close()

    asyncio.run(whole())


@pytest.mark.parametrize("places", [(0, 1, 1), (2, 0, 1), (2, 3, 1), (2, 2, 2), (2, 2, 0)])
def test_places_that_cannot_be(places: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="places"):
        Turns(*places)
