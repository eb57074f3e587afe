"""TaggingService: a clip's bytes to its Report, the same steps as every other door.

Knows plans, the decode lane and the engine's door; it knows neither HTTP nor Serve.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from deployments.aside import aside
from deployments.banks.recent import RecentFrames
from deployments.critical import Recheck
from deployments.decode_lane import DecodeLane
from deployments.engine_door import EngineDoor
from deployments.meters import Meters
from deployments.spans import span
from reelsight.errors import EngineInputError, Overloaded
from reelsight.media.sampler import Sampling
from reelsight.nouns.report import Failure, Report
from reelsight.plan import TaggingPlan
from reelsight.steps import ClipRequest, report_clip, timeline_of

__all__ = ["TagJob", "Tagger", "TaggingService"]

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]

_SAMPLINGS_KEPT = 64
# Scores, of a frame and a label each, that take about two milliseconds: 32 frames of 300 labels.
# A long clip with a large bank takes seconds, in which nothing else would be answered.
_SCORES = 10_000


@dataclass(frozen=True, slots=True)
class TagJob:
    """One clip to tag.

    Attributes:
        clip_id: Name that the Report carries.
        data: The clip's bytes.
        deadline: time.monotonic() after which nobody waits for it.
        sampling: Which moments are looked at; the plan's when None.
        background: Whether it is a job's: it decodes in the turns of jobs, and its frames go to the
            engine a batch at a time, so that those of requests go between them.
        heard: Hears how many frames were decoded and how many of them embedded, on the event loop.
    """

    clip_id: str
    data: bytes
    deadline: float
    sampling: Sampling | None = None
    background: bool = False
    heard: Callable[[int, int], None] | None = None


class Tagger(Protocol):
    """Tags clips, wherever that is done."""

    @property
    def plan(self) -> TaggingPlan:
        """What is done to clips that come now."""

    @property
    def full(self) -> bool:
        """Whether a clip that comes now is refused, as far as it is known here."""

    async def tag(self, job: TagJob) -> Report:
        """As TaggingService."""


class TaggingService:
    """Tags clips for many requests at a time. It belongs to one event loop.

    Args:
        plan: What is done to a clip.
        lane: Decodes.
        engine: Embeds.
        recent: Keeps what was embedded last.
        recheck: Decides critical labels near their thresholds; None leaves them to the engine.
        meters: Count.
    """

    def __init__(
        self,
        plan: TaggingPlan,
        lane: DecodeLane,
        engine: EngineDoor,
        recent: RecentFrames,
        recheck: Recheck | None = None,
        meters: Meters | None = None,
    ) -> None:
        self._lane, self._engine, self._recent = lane, engine, recent
        self._recheck, self._meters = recheck, meters or Meters()
        self._plan = plan
        self._by_sampling: dict[Sampling, TaggingPlan] = {}

    @property
    def plan(self) -> TaggingPlan:
        """What is done to clips that come now."""
        return self._plan

    @property
    def full(self) -> bool:
        """Whether a clip that comes now is refused."""
        return self._lane.full

    def use(self, plan: TaggingPlan) -> None:
        """Another plan for the clips that come from now on; those under way keep theirs."""
        self._plan, self._by_sampling = plan, {}

    async def tag(self, job: TagJob) -> Report:
        """Tag one clip; its Report says why where it could not be.

        Raises:
            Overloaded: Too many wait, or the deadline passed.
            EngineError: The engine is broken; the clip is not to blame.
            RunError: This machine gives no process to decode in.
        """
        plan = self._plan_for(job.sampling)
        request = ClipRequest(job.clip_id, "upload:")
        try:
            async with asyncio.timeout(max(0.0, job.deadline - time.monotonic())):
                return await self._report(request, job, plan)
        except TimeoutError:
            raise Overloaded("the deadline passed", code="request.deadline") from None

    async def _report(self, request: ClipRequest, job: TagJob, plan: TaggingPlan) -> Report:
        with span("decode"):
            loaded = await self._lane.load(
                request, job.data, plan, job.deadline, background=job.background
            )
        timeline = embeddings = rechecked = None
        failure = loaded.failure
        if loaded.frames is not None:
            timeline = timeline_of(loaded.frames)
            try:
                with span("embed"):
                    rows = await self._embed(loaded.frames.pixels, job)
                embeddings = rows.astype(np.float16)
                if self._recheck is not None:
                    with span("recheck"):
                        embeddings, rechecked = await self._recheck.settle(
                            loaded.frames.pixels, embeddings, plan.bank, job.deadline
                        )
            except EngineInputError as error:
                failure = Failure.of(error)
        started = time.perf_counter()
        with span("aggregate"):
            report = await aside(
                embeddings is not None and len(embeddings) * len(plan.bank) >= _SCORES,
                partial(
                    report_clip,
                    timeline=timeline,
                    embeddings=embeddings,
                    failure=failure,
                    rechecked=rechecked,
                ),
                loaded.clip,
                plan,
                {},
            )
        self._meters.aggregated(time.perf_counter() - started)
        self._recent.add(report)
        return report

    async def _embed(self, pixels: Pixels, job: TagJob) -> Embeddings:
        if not job.background:
            return await self._engine.embed(pixels, deadline=job.deadline)
        heard = job.heard or (lambda decoded, embedded: None)
        heard(len(pixels), 0)
        step, parts = self._plan.spec.buckets[-1], []
        for at in range(0, len(pixels), step):
            parts.append(await self._patiently(pixels[at : at + step], job.deadline))
            heard(len(pixels), min(at + step, len(pixels)))
        return np.concatenate(parts)

    async def _patiently(self, pixels: Pixels, deadline: float) -> Embeddings:
        """Embed as soon as the engine's queue has room: nobody holds a line open for a job."""
        wait_s = 0.05
        while True:
            try:
                return await self._engine.embed(pixels, deadline=deadline)
            except Overloaded:
                if time.monotonic() + wait_s > deadline:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(1.0, 2 * wait_s)

    def _plan_for(self, sampling: Sampling | None) -> TaggingPlan:
        """The plan with another sampling. A plan hashes its bank once, so it is kept."""
        if sampling is None or sampling == self._plan.sampling:
            return self._plan
        if sampling not in self._by_sampling:
            if len(self._by_sampling) >= _SAMPLINGS_KEPT:
                self._by_sampling.clear()
            self._by_sampling[sampling] = replace(self._plan, sampling=sampling)
        return self._by_sampling[sampling]
