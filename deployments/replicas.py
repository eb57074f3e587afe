"""What runs in Serve's replicas: engines, and the tagging of clips in front of them.

Each is the class of the other doors with a queue in front; what Serve adds is where they run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from deployments.assembly import Assembly, watch_host
from deployments.banks.live import follower_for
from deployments.banks.recent import FrameSample
from deployments.critical import Recheck
from deployments.embedding import EmbedAnswer, EmbedJob
from deployments.engine_door import HostDoor
from deployments.logs import log_as_json
from deployments.meters import Gather, Meters, Numbers
from deployments.service import TagJob
from reelsight.engine import EngineRecipe, EngineWorker, TextTower
from reelsight.errors import EngineError, Overloaded, ReelsightError, first_line
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.report import Report
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings

__all__ = [
    "EngineReplica",
    "FrameJob",
    "HandleDoor",
    "HandleEmbedder",
    "HandleTagger",
    "MediaReplica",
    "gather_all",
    "own_meters",
]

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]

_BATCH_WAIT_S = 0.001
_BATCHES_AT_ONCE = 64
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


class EngineReplica:
    """EngineWorker behind Serve: the actor class of the backfill, asked by handles.

    @serve.batch gathers what arrives together, so that a hop is paid once a batch; the host's queue
    behind it fills the engine's batches, which go on growing while the engine is busy.

    Args:
        recipe: The engine.
        settings: Bounds.
    """

    def __init__(self, recipe: EngineRecipe, settings: Settings) -> None:
        log_as_json(settings.serve.log_level)
        self._meters = own_meters()
        self._worker = EngineWorker(
            recipe.open_engine,
            recipe.spec,
            max_queued_frames=settings.engine.max_queued_frames,
            observer=self._meters,
        )
        watch_host(self._meters, self._worker.host)
        self._door = HostDoor(self._worker.host)
        self._stall_s = settings.serve.stall_s

    @serve.batch(
        max_batch_size=256,
        batch_wait_timeout_s=_BATCH_WAIT_S,
        max_concurrent_batches=_BATCHES_AT_ONCE,
    )
    async def embed(self, jobs: list[FrameJob]) -> list[Embeddings | ReelsightError]:
        """Embed the frames of many requests; an error is the answer to its own request alone."""
        return await asyncio.gather(*(self._embed(job) for job in jobs))

    async def stalled_s(self) -> float:
        """As EngineDoor."""
        return await self._door.stalled_s()

    async def numbers(self) -> Numbers:
        """What this replica has counted."""
        return await self._meters.numbers()

    async def check_health(self) -> None:
        """Life is progress: Serve replaces a replica whose engine makes none."""
        stalled = await self._door.stalled_s()
        if stalled > self._stall_s:
            raise EngineError(
                f"the engine has finished nothing for {stalled:.0f} s", code="engine.wedged"
            )

    def __del__(self) -> None:
        # What Serve calls when it lets a replica go.
        worker = getattr(self, "_worker", None)
        if worker is not None:
            worker.close()

    async def _embed(self, job: FrameJob) -> Embeddings | ReelsightError:
        deadline = None if job.left_s is None else time.monotonic() + job.left_s
        try:
            return await self._door.embed(job.pixels, deadline=deadline)
        except ReelsightError as error:
            return error


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


class MediaReplica:
    """Decodes and tags; its engine is elsewhere. It follows the current bank by itself.

    Args:
        plan: What is done to a clip.
        settings: Bounds.
        engine: EngineReplica's handle.
        open_text: Makes the model's text tower.
        critical: That of the replicas which decide critical labels, and what they run.
    """

    def __init__(
        self,
        plan: TaggingPlan,
        settings: Settings,
        engine: DeploymentHandle,
        open_text: Callable[[], TextTower],
        critical: tuple[DeploymentHandle, EngineSpec] | None = None,
    ) -> None:
        log_as_json(settings.serve.log_level)
        self._meters = own_meters()
        door, recheck = HandleDoor(engine), None
        if critical is not None:
            second, spec = critical
            recheck = Recheck(HandleDoor(second), spec, settings.serve.critical_band)
        self._assembly = Assembly(plan, settings, door, open_text, self._meters, recheck)
        service = self._assembly.service
        self._banks = follower_for(settings, plan, door, service.use)
        # Serve makes its replicas within the loop that their methods run in.
        self._banks.start()

    async def tag(self, job: TagJob, left_s: float) -> Report | ReelsightError:
        """Tag a clip that is waited for that long; `job.deadline` is another machine's time."""
        own = replace(job, deadline=time.monotonic() + left_s)
        await self._banks.looked()
        try:
            return await self._assembly.service.tag(own)
        except ReelsightError as error:
            return error

    async def embed(self, job: EmbedJob, left_s: float) -> EmbedAnswer | ReelsightError:
        """As EmbeddingService; waited for that long, as in `tag`."""
        own = replace(job, deadline=time.monotonic() + left_s)
        try:
            return await self._assembly.embedding.embed(own)
        except ReelsightError as error:
            return error

    async def look_at_banks(self) -> str:
        """Serve the current bank now, not at the next poll; returns how that ended."""
        return (await self._banks.look()).state

    async def recent_frames(self) -> FrameSample:
        """What was tagged here last."""
        return self._assembly.recent.sample()

    async def numbers(self) -> Numbers:
        """What this replica has counted."""
        return await self._meters.numbers()

    def __del__(self) -> None:
        assembly = getattr(self, "_assembly", None)
        if assembly is not None:
            assembly.close()


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


def own_meters() -> Meters:
    """Meters that are named after the replica they are made in."""
    here = serve.get_replica_context()
    return Meters(here.deployment, here.replica_tag)


def gather_all(meters: Meters, handles: Sequence[DeploymentHandle], timeout_s: float) -> Gather:
    """The numbers of every replica of some deployments, this one's own among them.

    Args:
        meters: Of this replica; told also when its deployment's other replicas are not heard.
        handles: Of the deployments, whose replicas have a method `numbers`.
        timeout_s: Seconds to wait for a deployment.
    """

    async def one(handle: DeploymentHandle) -> list[Numbers]:
        answers = handle.broadcast("numbers")
        try:
            found = await answers.results_async(timeout_s=timeout_s, return_exceptions=True)
        except TimeoutError:
            found = []
        heard = [each for each in found if isinstance(each, Numbers)]
        name = handle.deployment_name
        if name == meters.deployment and all(n.replica != meters.replica for n in heard):
            heard.append(await meters.numbers())
        if not found or len(heard) < len(found):
            own = Numbers(meters.deployment, meters.replica, {}, unheard=(name,))
            heard.append(own)
        return heard

    async def gather() -> Sequence[Numbers]:
        return [n for each in await asyncio.gather(*map(one, handles)) for n in each]

    return gather
