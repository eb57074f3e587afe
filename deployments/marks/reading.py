"""Marks of clips that come over HTTP: decoded in the lane, read by an extractor, wherever it runs.

No key is known here: in `split` this is in media replicas, the extractor in replicas of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from deployments.decode_lane import DecodeLane
from deployments.engine_door import EngineDoor
from deployments.spans import span
from reelsight.copies.reading import parts_of, pictures, quality_of, soft_bits, views_of
from reelsight.copies.thumbnails import thumbnails_of
from reelsight.errors import EngineInputError, Overloaded
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames
from reelsight.nouns.mark import SoftBits
from reelsight.nouns.report import Failure
from reelsight.plan import ScanPlan
from reelsight.steps import ClipRequest

__all__ = ["MarkJob", "MarkReader", "MarkReadingService", "MarksRead"]


@dataclass(frozen=True, slots=True)
class MarkJob:
    """One clip whose marks are read.

    Attributes:
        clip_id: Name that the answer carries.
        data: The clip's bytes.
        deadline: time.monotonic() after which nobody waits for it.
        sampling: Which moments are looked at; the plan's when None.
        search: Whether cuts and borders are looked for; as the plan says when None.
    """

    clip_id: str
    data: bytes
    deadline: float
    sampling: Sampling | None = None
    search: bool | None = None


@dataclass(frozen=True, slots=True)
class MarksRead:
    """What was read of it.

    Attributes:
        clip: The clip.
        attempts: Soft bits of every view.
        thumbnails: JPEG, base64, by the frame's time in seconds.
        failure: Why nothing was read; None where something was.
    """

    clip: Clip
    attempts: tuple[SoftBits, ...] = ()
    thumbnails: Mapping[float, str] | None = None
    failure: Failure | None = None


class MarkReader(Protocol):
    """Reads marks, wherever that is done."""

    @property
    def plan(self) -> ScanPlan:
        """How clips are read."""

    async def read(self, job: MarkJob) -> MarksRead:
        """As MarkReadingService."""


class MarkReadingService:
    """Reads the marks of many requests' clips at a time. It belongs to one event loop.

    Args:
        plan: How clips are read.
        lane: Decodes.
        engine: The extractor.
    """

    def __init__(self, plan: ScanPlan, lane: DecodeLane, engine: EngineDoor) -> None:
        self._plan, self._lane, self._engine = plan, lane, engine

    @property
    def plan(self) -> ScanPlan:
        """How clips are read."""
        return self._plan

    async def read(self, job: MarkJob) -> MarksRead:
        """Read the marks of one clip; what comes says why where it could not be.

        Raises:
            Overloaded: Too many wait, or the deadline passed.
            EngineError: The extractor is broken; the clip is not to blame.
            RunError: This machine gives no process to decode in.
        """
        marks = self._plan.marks
        wanted = replace(
            marks,
            sampling=job.sampling or marks.sampling,
            search=marks.search if job.search is None else job.search,
        )
        plan = replace(self._plan, marks=wanted)
        try:
            async with asyncio.timeout(max(0.0, job.deadline - time.monotonic())):
                return await self._read(job, plan)
        except TimeoutError:
            raise Overloaded("the deadline passed", code="request.deadline") from None

    async def _read(self, job: MarkJob, plan: ScanPlan) -> MarksRead:
        request = ClipRequest(job.clip_id, "upload:")
        with span("decode"):
            loaded = await self._lane.load(request, job.data, plan, job.deadline)
        if loaded.frames is None:
            return MarksRead(loaded.clip, failure=loaded.failure)
        try:
            with span("read marks"):
                attempts = await self._attempts(loaded.clip, loaded.frames, plan, job.deadline)
        except EngineInputError as error:
            return MarksRead(loaded.clip, failure=Failure.of(error))
        shown = await asyncio.to_thread(thumbnails_of, loaded.clip, loaded.frames, attempts[0])
        return MarksRead(loaded.clip, tuple(attempts), shown)

    async def _attempts(
        self, clip: Clip, frames: Frames, plan: ScanPlan, deadline: float
    ) -> list[SoftBits]:
        """As `reelsight.copies.reading.read_marks`, waiting for the engine and not in it."""
        spec, luma = plan.marks.spec, np.ascontiguousarray(frames.pixels[..., 0])
        quality = await asyncio.to_thread(quality_of, clip, luma)
        attempts = []
        for view in views_of(plan.marks.search):
            rows = []
            for part in parts_of(luma):
                pixels = await asyncio.to_thread(pictures, view, part)
                rows.append(await self._engine.embed(pixels, deadline=deadline))
            attempts.append(soft_bits(spec, view, frames.pts, quality, rows))
        return attempts
