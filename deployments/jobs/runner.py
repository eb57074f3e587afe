"""JobRunner: runs the jobs of a store, each under a lease that is renewed while it runs.

A job that the store takes away, cancelled or lost to another process, is dropped. When the runner
stops, what it runs is given back, and is nobody's attempt. What it knows of tagging is `Tagger`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from deployments.jobs.bell import Bell
from deployments.jobs.errors import JobStoreBroken
from deployments.jobs.leases import Claim, Leases
from deployments.jobs.uploads import Uploads
from deployments.problems import ClipFailed
from deployments.schemas import TagAnswer
from deployments.service import Tagger, TagJob
from reelsight.errors import ReelsightError
from reelsight.media.sampler import Sampling

__all__ = ["JobRunner"]

_LOG = logging.getLogger(__name__)
_IDLE_S = 1.0
_PROGRESS_S = 0.25
_RETRY_S = 2.0


@dataclass(slots=True)
class _Progress:
    bell: Bell
    decoded: int | None = None
    embedded: int | None = None

    def heard(self, decoded: int, embedded: int) -> None:
        self.decoded, self.embedded = decoded, embedded
        self.bell.ring()


@contextmanager
def _best_effort() -> Iterator[None]:
    """On the way out a broken disk must not take the place of the cancellation: nobody would end.

    What is not given back is taken over when its lease has run out.
    """
    try:
        yield
    except JobStoreBroken as error:
        _LOG.error("jobs: not given back: %s", error)


class JobRunner:
    """Runs jobs until it is cancelled.

    Args:
        leases: Whose jobs.
        uploads: Their bytes.
        tagger: Tags.
        work: Rings when a job may have come.
        news: Rung when something happened to one.
        at_once: Jobs at a time.
        timeout_s: Seconds for one attempt.
    """

    def __init__(
        self,
        leases: Leases,
        uploads: Uploads,
        tagger: Tagger,
        work: Bell,
        news: Bell,
        *,
        at_once: int,
        timeout_s: float,
    ) -> None:
        self._leases, self._uploads, self._tagger = leases, uploads, tagger
        self._work, self._news = work, news
        self._at_once, self._timeout_s = at_once, timeout_s
        self._running: dict[str, _Progress] = {}

    async def run(self) -> None:
        """Run jobs until cancelled; each that is under way then is given back."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._serve())

    def look(self, job: str) -> None:
        """Look at once whether a job is still to be run."""
        if job in self._running:
            self._running[job].bell.ring()

    async def _serve(self) -> None:
        while True:
            ring = self._work.next()
            try:
                claim = await self._claim()
                if claim is not None:
                    await self._attempt(claim)
                    continue
            except JobStoreBroken as error:
                # The lease runs out, and the job is begun again when the disk is well.
                _LOG.error("jobs: %s", error)
            await Bell.heard(ring, _IDLE_S)

    async def _claim(self) -> Claim | None:
        asked = asyncio.ensure_future(asyncio.to_thread(self._leases.claim))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            # The thread goes on: what it takes is given back.
            with _best_effort():
                claim = await asked
                if claim is not None:
                    await asyncio.to_thread(self._leases.give_back, claim, counted=False)
            raise

    async def _attempt(self, claim: Claim) -> None:
        progress = self._running[claim.job.id] = _Progress(Bell())
        self._news.ring()
        tagging = asyncio.ensure_future(self._tag(claim, progress))
        keeping = asyncio.ensure_future(self._keep(claim, progress))
        try:
            await asyncio.wait({tagging, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if tagging.done():
                await self._settle(claim, tagging, progress)
        except asyncio.CancelledError:
            with _best_effort():
                await asyncio.to_thread(self._leases.give_back, claim, counted=False)
            raise
        finally:
            del self._running[claim.job.id]
            for task in (tagging, keeping):
                task.cancel()
            await asyncio.gather(tagging, keeping, return_exceptions=True)
            self._news.ring()

    async def _tag(self, claim: Claim, progress: _Progress) -> dict[str, Any]:
        asked = claim.job.asked
        data = await asyncio.to_thread(self._uploads.read, claim.job.id)
        report = await self._tagger.tag(
            TagJob(
                clip_id=asked.clip_id,
                data=data,
                deadline=time.monotonic() + self._timeout_s,
                sampling=None if asked.sampling is None else Sampling.parse(asked.sampling),
                background=True,
                heard=progress.heard,
            )
        )
        if report.failure is not None:
            raise ClipFailed(report.failure)
        return TagAnswer.of(report, asked.request_id).model_dump(mode="json")

    async def _keep(self, claim: Claim, progress: _Progress) -> None:
        """Renew the lease; ends when the job is the caller's no more."""
        while True:
            ring = progress.bell.next()
            try:
                kept = await asyncio.to_thread(
                    self._leases.renew, claim, progress.decoded, progress.embedded
                )
            except JobStoreBroken as error:
                _LOG.error("jobs: %s", error)
                kept = True  # Not known: a result that comes too late is not taken.
            self._news.ring()
            if not kept:
                return
            await Bell.heard(ring, self._leases.lease_s / 3)
            await asyncio.sleep(_PROGRESS_S if ring.is_set() else 0)

    async def _settle(
        self, claim: Claim, tagging: asyncio.Future[dict[str, Any]], progress: _Progress
    ) -> None:
        frames = (progress.decoded, progress.embedded)
        try:
            result = tagging.result()
        except ReelsightError as error:
            again, problem = error.retryable, error
        except Exception:  # Boundary: one job must not end the others. The attempts are bounded.
            _LOG.exception("a job met a bug")
            again, problem = True, ReelsightError("this job met a bug", code="internal.unexpected")
        else:
            await asyncio.to_thread(self._leases.finish, claim, result, *frames)
            return
        if again and not self._leases.last(claim):
            wait_s = _RETRY_S * 2 ** (claim.job.attempts - 1)
            await asyncio.to_thread(self._leases.give_back, claim, wait_s=wait_s, counted=True)
            return
        await asyncio.to_thread(self._leases.fail, claim, problem, *frames)
