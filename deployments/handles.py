"""The way to replicas in other processes: Serve's handles, as the doors that others know.

A call ends by an answer, by an error that the replica answers, or by one that says what became of
the replica. What runs there is no business of this module.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.banks.recent import FrameSample
from deployments.embedding import EmbedAnswer, EmbedJob
from deployments.engine_door import Embeddings, Pixels
from deployments.service import TagJob
from reelsight.errors import Overloaded, ReelsightError, first_line
from reelsight.nouns.report import Report
from reelsight.plan import TaggingPlan

__all__ = ["FrameJob", "HandleDoor", "HandleEmbedder", "HandleTagger", "ReplicaLost"]

_TELL_S = 2.0
# Beside the deadline, so that a replica that keeps it answers first.
_GRACE_S = 0.25
_FULL = "decode.overloaded"
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
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = _of_any_size(handle)

    async def embed(self, pixels: Pixels, *, deadline: float | None) -> Embeddings:
        left_s = None if deadline is None else deadline - time.monotonic()
        rows: Embeddings = await _answer(self._handle.embed, left_s, FrameJob(pixels, left_s))
        return rows

    async def stalled_s(self) -> float:
        # Serve watches each replica's own health; from here one of them is asked.
        return float(await _answer(self._handle.stalled_s, _TELL_S))


class HandleTagger:
    """MediaReplicas in other processes.

    Args:
        handle: Of the deployment.
        plan: What they do to a clip.
        preview_frames: Most frames of all of them together.
    """

    def __init__(self, handle: DeploymentHandle, plan: TaggingPlan, preview_frames: int) -> None:
        self._handle = _of_any_size(handle)
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
        sent, left_s = replace(job, heard=None), job.deadline - time.monotonic()
        try:
            report: Report = await _answer(self._handle.tag, left_s, sent, left_s)
        except Overloaded as error:
            if error.code == _FULL and not job.background:
                self._full_until = time.monotonic() + _FULL_S
            raise
        return report


class HandleEmbedder:
    """The text towers and decoders of MediaReplicas.

    Args:
        handle: Of the deployment.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = _of_any_size(handle)

    async def embed(self, job: EmbedJob) -> EmbedAnswer:
        left_s = job.deadline - time.monotonic()
        embedded: EmbedAnswer = await _answer(self._handle.embed, left_s, job, left_s)
        return embedded


def _of_any_size(handle: DeploymentHandle) -> DeploymentHandle:
    """Calls that Ray carries, whatever their size.

    RAY_SERVE_THROUGHPUT_OPTIMIZED sends them by gRPC, whose servers and clients take 4 MB: a short
    clip, or 27 frames.
    """
    return handle.options(_by_reference=True)


class ReplicaLost(Overloaded):
    """A replica died, or could not be reached, while it had the request; another answers the next.

    It is the service's own trouble and says nothing of the request.
    """

    code = "serve.replica_lost"
    hint = "Try again: the replica is replaced."


async def _answer(method: Any, left_s: float | None, *arguments: Any) -> Any:
    """What a replica answers to a call; an error that it answers is raised.

    Args:
        method: Of a handle.
        left_s: Seconds for which the answer is worth it; None for ever. A replica keeps deadlines
            by itself: this one is for replicas that are not there, or hang.
        arguments: Of the call.

    Raises:
        Overloaded: `decode.overloaded`, `request.deadline` or `serve.replica_lost`.
        ReelsightError: What the replica answered.
    """
    response = method.remote(*arguments)
    try:
        async with asyncio.timeout(None if left_s is None else max(0.0, left_s) + _GRACE_S):
            answer = await response
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or not task.cancelling():  # The replica ended it, not who waits here.
            raise ReplicaLost("the replica that had this request has let go of it") from error
        # Serve does not tell the replica that nobody waits any more.
        response.cancel()
        raise
    except BackPressureError as error:
        raise Overloaded("too many clips wait for a media replica", code=_FULL) from error
    except (RayActorError, DeploymentUnavailableError) as error:
        _log.warning("a replica was lost: %s", first_line(error))
        raise ReplicaLost("the replica that had this request is gone") from error
    except TimeoutError:
        response.cancel()
        raise Overloaded("no replica answered in time", code="request.deadline") from None
    if isinstance(answer, ReelsightError):
        raise answer
    return answer
