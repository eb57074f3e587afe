"""What runs in Serve's replicas: engines, and the tagging of clips in front of them.

Each is the class of the other doors with a queue in front; what Serve adds is where they run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from ray import serve
from ray.serve.handle import DeploymentHandle

from deployments.assembly import Assembly, watch_host
from deployments.banks.live import follower_for
from deployments.banks.recent import FrameSample
from deployments.critical import Recheck
from deployments.embedding import EmbedAnswer, EmbedJob
from deployments.engine_door import Embeddings, HostDoor
from deployments.handles import FrameJob, HandleDoor
from deployments.logs import log_as_json
from deployments.marks.reading import MarkJob, MarkReader, MarksRead
from deployments.meters import Gather, Meters, Numbers
from deployments.service import TagJob
from reelsight.engine import EngineRecipe, EngineWorker, MarkRecipe, TextTower
from reelsight.errors import EngineError, ReelsightError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.report import Report
from reelsight.plan import ScanPlan, TaggingPlan
from reelsight.settings import Settings

__all__ = ["EngineReplica", "MediaReplica", "gather_all", "own_meters"]

_BATCH_WAIT_S = 0.001
_BATCHES_AT_ONCE = 64


class EngineReplica:
    """EngineWorker behind Serve: the actor class of the backfill, asked by handles.

    @serve.batch gathers what arrives together, so that a hop is paid once a batch; the host's queue
    behind it fills the engine's batches, which go on growing while the engine is busy.

    Args:
        recipe: The engine.
        settings: Bounds.
    """

    def __init__(self, recipe: EngineRecipe | MarkRecipe, settings: Settings) -> None:
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


class MediaReplica:
    """Decodes and tags; its engine is elsewhere. It follows the current bank by itself.

    Args:
        plan: What is done to a clip.
        settings: Bounds.
        engine: EngineReplica's handle.
        open_text: Makes the model's text tower.
        critical: That of the replicas which decide critical labels, and what they run.
        marks: That of the replicas with the extractor, and how marks are read.
    """

    def __init__(
        self,
        plan: TaggingPlan,
        settings: Settings,
        engine: DeploymentHandle,
        open_text: Callable[[], TextTower],
        critical: tuple[DeploymentHandle, EngineSpec] | None = None,
        marks: tuple[DeploymentHandle, ScanPlan] | None = None,
    ) -> None:
        log_as_json(settings.serve.log_level)
        self._meters = own_meters()
        wait_s = settings.serve.replica_wait_s
        door, recheck = HandleDoor(engine, wait_s, self._meters), None
        if critical is not None:
            second, spec = critical
            checker = HandleDoor(second, wait_s, self._meters)
            recheck = Recheck(checker, spec, settings.serve.critical_band)
        self._assembly = Assembly(plan, settings, door, open_text, self._meters, recheck)
        self._mark_reader: MarkReader | None = None
        if marks is not None:
            extractor = HandleDoor(marks[0], wait_s, self._meters)
            self._mark_reader = self._assembly.mark_reader(marks[1], extractor)
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

    async def read_marks(self, job: MarkJob, left_s: float) -> MarksRead | ReelsightError:
        """As MarkReadingService; waited for that long, as in `tag`."""
        own = replace(job, deadline=time.monotonic() + left_s)
        if self._mark_reader is None:
            return EngineError("this replica has no extractor", code="engine.no_extractor")
        try:
            return await self._mark_reader.read(own)
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
