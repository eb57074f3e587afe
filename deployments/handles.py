"""The way to replicas in other processes: Serve's handles, as the doors that others know.

How a call goes, and what becomes of it when a replica dies, is `deployments.calls`.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

from ray.serve.handle import DeploymentHandle

from deployments.banks.recent import FrameSample
from deployments.calls import FULL, Calls
from deployments.embedding import EmbedAnswer, EmbedJob
from deployments.engine_door import Embeddings, Pixels
from deployments.marks.reading import MarkJob, MarksRead
from deployments.meters import Meters
from deployments.service import TagJob
from reelsight.errors import Overloaded
from reelsight.nouns.report import Report
from reelsight.plan import ScanPlan, TaggingPlan

__all__ = ["FrameJob", "HandleDoor", "HandleEmbedder", "HandleMarkReader", "HandleTagger"]

_TELL_S = 2.0
_FULL_S = 0.1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrameJob:
    """Frames of one request on their way to an engine.

    Attributes:
        pixels: uint8 [N, S, S, 3] RGB.
        left_s: Seconds for which they are worth it, from their arrival on; None for ever.
    """

    pixels: Pixels
    left_s: float | None


class HandleDoor:
    """EngineReplicas in other processes.

    Args:
        handle: Of the deployment.
        wait_s: As Calls.
        meters: Count.
    """

    def __init__(self, handle: DeploymentHandle, wait_s: float, meters: Meters) -> None:
        self._calls = Calls(handle, wait_s, meters)

    async def embed(
        self, pixels: Pixels, *, deadline: float | None, patient: bool = False
    ) -> Embeddings:
        rows: Embeddings = await self._calls.ask(
            "embed",
            lambda left_s: (FrameJob(pixels, left_s),),
            deadline=deadline,
            patient=patient,
        )
        return rows

    async def stalled_s(self) -> float:
        # Serve watches each replica's own health; from here one of them is asked.
        deadline = time.monotonic() + _TELL_S
        return float(await self._calls.ask("stalled_s", lambda _: (), deadline=deadline))


class HandleTagger:
    """MediaReplicas in other processes.

    Args:
        handle: Of the deployment.
        plan: What they do to a clip.
        preview_frames: Most frames of all of them together.
        wait_s: As Calls.
        meters: Count.
    """

    def __init__(
        self,
        handle: DeploymentHandle,
        plan: TaggingPlan,
        preview_frames: int,
        wait_s: float,
        meters: Meters,
    ) -> None:
        self._calls = Calls(handle, wait_s, meters)
        self._handle = handle.options(_by_reference=True)
        self._plan, self._preview_frames = plan, preview_frames
        self._full_until = 0.0

    @property
    def plan(self) -> TaggingPlan:
        return self._plan

    @property
    def full(self) -> bool:
        # The replicas' lanes are theirs. One that has just refused holds more than it decodes in
        # this time: what would be refused there need not be read here first.
        return time.monotonic() < self._full_until

    def use(self, plan: TaggingPlan) -> None:
        """Say that clips are tagged by this plan from now on; the replicas follow by themselves."""
        self._plan = plan

    async def look_at_banks(self) -> None:
        """Let every replica look; one that does not answer looks by itself."""
        told = self._handle.broadcast("look_at_banks")
        states = await told.results_async(timeout_s=_TELL_S, return_exceptions=True)
        late = [state for state in states if state != "following"]
        if late:
            _log.warning("%d of %d replicas have not swapped: %s", len(late), len(states), late[:4])

    async def recent_frames(self) -> FrameSample:
        """What was tagged last, by all replicas that answer."""
        told = self._handle.broadcast("recent_frames")
        samples = await told.results_async(timeout_s=_TELL_S)
        return FrameSample.joined(samples, self._preview_frames)

    async def tag(self, job: TagJob) -> Report:
        # Who hears of progress is in this process, and stays here.
        sent = replace(job, heard=None)
        try:
            report: Report = await self._calls.ask(
                "tag",
                lambda left_s: (sent, left_s),
                deadline=job.deadline,
                patient=job.background,
            )
        except Overloaded as error:
            if error.code == FULL and not job.background:
                self._full_until = time.monotonic() + _FULL_S
            raise
        return report


class HandleEmbedder:
    """The text towers and decoders of MediaReplicas.

    Args:
        handle: Of the deployment.
        wait_s: As Calls.
        meters: Count.
    """

    def __init__(self, handle: DeploymentHandle, wait_s: float, meters: Meters) -> None:
        self._calls = Calls(handle, wait_s, meters)

    async def embed(self, job: EmbedJob) -> EmbedAnswer:
        embedded: EmbedAnswer = await self._calls.ask(
            "embed", lambda left_s: (job, left_s), deadline=job.deadline
        )
        return embedded


class HandleMarkReader:
    """The decoders of MediaReplicas, and the extractor behind them; keys stay where this is.

    Args:
        handle: Of the deployment.
        plan: How they read marks.
        wait_s: As Calls.
        meters: Count.
    """

    def __init__(
        self, handle: DeploymentHandle, plan: ScanPlan, wait_s: float, meters: Meters
    ) -> None:
        self._calls, self._plan = Calls(handle, wait_s, meters), plan

    @property
    def plan(self) -> ScanPlan:
        return self._plan

    async def read(self, job: MarkJob) -> MarksRead:
        read: MarksRead = await self._calls.ask(
            "read_marks", lambda left_s: (job, left_s), deadline=job.deadline
        )
        return read
