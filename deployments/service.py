"""TaggingService: a clip's bytes to its Report, the same steps as every other door.

Knows plans, the decode lane and the engine's door; it knows neither HTTP nor Serve.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

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

_SAMPLINGS_KEPT = 64


@dataclass(frozen=True, slots=True)
class TagJob:
    """One clip to tag.

    Attributes:
        clip_id: Name that the Report carries.
        data: The clip's bytes.
        deadline: time.monotonic() after which nobody waits for it.
        sampling: Which moments are looked at; the plan's when None.
    """

    clip_id: str
    data: bytes
    deadline: float
    sampling: Sampling | None = None


class Tagger(Protocol):
    """Tags clips, wherever that is done."""

    @property
    def plan(self) -> TaggingPlan:
        """What is done to clips that come now."""

    async def tag(self, job: TagJob) -> Report:
        """As TaggingService."""


class TaggingService:
    """Tags clips for many requests at a time. It belongs to one event loop.

    Args:
        plan: What is done to a clip.
        lane: Decodes.
        engine: Embeds.
        meters: Count.
    """

    def __init__(
        self,
        plan: TaggingPlan,
        lane: DecodeLane,
        engine: EngineDoor,
        meters: Meters | None = None,
    ) -> None:
        self._lane, self._engine, self._meters = lane, engine, meters or Meters()
        self._plan = plan
        self._by_sampling: dict[Sampling, TaggingPlan] = {}

    @property
    def plan(self) -> TaggingPlan:
        """What is done to clips that come now."""
        return self._plan

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
            loaded = await self._lane.load(request, job.data, plan, job.deadline)
        timeline = embeddings = None
        failure = loaded.failure
        if loaded.frames is not None:
            timeline = timeline_of(loaded.frames)
            try:
                with span("embed"):
                    rows = await self._engine.embed(loaded.frames.pixels, deadline=job.deadline)
                embeddings = rows.astype(np.float16)
            except EngineInputError as error:
                failure = Failure.of(error)
        started = time.perf_counter()
        with span("aggregate"):
            report = report_clip(
                loaded.clip, plan, {}, timeline=timeline, embeddings=embeddings, failure=failure
            )
        self._meters.aggregated(time.perf_counter() - started)
        return report

    def _plan_for(self, sampling: Sampling | None) -> TaggingPlan:
        """The plan with another sampling. A plan hashes its bank once, so it is kept."""
        if sampling is None or sampling == self._plan.sampling:
            return self._plan
        if sampling not in self._by_sampling:
            if len(self._by_sampling) >= _SAMPLINGS_KEPT:
                self._by_sampling.clear()
            self._by_sampling[sampling] = replace(self._plan, sampling=sampling)
        return self._by_sampling[sampling]
