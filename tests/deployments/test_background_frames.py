"""A job's frames go to the engine a batch at a time, and wait while it is full."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from deployments.banks.recent import RecentFrames
from deployments.decode_lane import DecodeLane
from deployments.engine_door import HostDoor
from deployments.service import TaggingService, TagJob
from deployments.turns import Turns
from reelsight.engine import EngineHost, EngineRecipe
from reelsight.errors import Overloaded
from reelsight.media.decoder import InProcess
from reelsight.media.sampler import Sampling
from reelsight.nouns.report import Report
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip


class Counting(HostDoor):
    """Counts frames; is full as often as it is told."""

    sizes: list[int]
    full = 0

    async def embed(
        self, pixels: npt.NDArray[np.uint8], *, deadline: float | None
    ) -> npt.NDArray[np.float32]:
        if self.full:
            self.full -= 1
            raise Overloaded("full")
        self.sizes.append(len(pixels))
        return await super().embed(pixels, deadline=deadline)


@pytest.fixture
def counted(
    samples: list[SampleClip], fake_recipe: EngineRecipe, fake_plan: TaggingPlan
) -> Callable[..., tuple[Report, list[int], list[tuple[int, int]]]]:
    """Tags a clip by many frames: its Report, the sizes that the engine saw, and what was heard."""
    data = max((sample.path.read_bytes() for sample in samples), key=len)

    def run(
        *, background: bool, full: int = 0, left_s: float = 60.0
    ) -> tuple[Report, list[int], list[tuple[int, int]]]:
        heard: list[tuple[int, int]] = []
        host = EngineHost(fake_recipe.open_engine())
        engine = Counting(host)
        engine.sizes, engine.full = [], full

        async def whole() -> Report:
            lane = DecodeLane(InProcess(), Turns.shared(2, 0.5), 4)
            service = TaggingService(fake_plan, lane, engine, RecentFrames(0, fake_plan.spec.dim))
            job = TagJob(
                "clip",
                data,
                time.monotonic() + left_s,
                Sampling.parse("rate:25"),
                background,
                lambda decoded, embedded: heard.append((decoded, embedded)),
            )
            try:
                return await service.tag(job)
            finally:
                lane.close()

        try:
            return asyncio.run(whole()), engine.sizes, heard
        finally:
            host.close()

    return run


def test_the_report_is_the_same_and_the_batches_are_small(
    counted: Callable[..., tuple[Report, list[int], list[tuple[int, int]]]],
    fake_plan: TaggingPlan,
) -> None:
    report, whole, silent = counted(background=False)
    same, parts, heard = counted(background=True)
    frames, largest = len(report.pts), fake_plan.spec.buckets[-1]
    assert frames > largest
    assert whole == [frames]
    assert silent == []
    assert max(parts) == largest
    assert sum(parts) == frames
    assert same == report
    assert heard[0] == (frames, 0)
    assert heard[-1] == (frames, frames)
    assert [embedded for _, embedded in heard] == [0, *np.cumsum(parts)]


def test_a_full_engine_is_waited_for(
    counted: Callable[..., tuple[Report, list[int], list[tuple[int, int]]]],
) -> None:
    report, _, _ = counted(background=True, full=3)
    assert report.failure is None
    with pytest.raises(Overloaded):
        counted(background=False, full=1)
    with pytest.raises(Overloaded):
        counted(background=True, full=1000, left_s=0.5)
