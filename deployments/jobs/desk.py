"""JobDesk: the jobs of one process, from the event loop: ask, look, cancel, wait; and their life.

Everything that touches the disk runs in threads; other processes may do the same to the same store.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from types import TracebackType

from pydantic import ValidationError

from deployments.jobs.answer import JobAnswer
from deployments.jobs.bell import Bell
from deployments.jobs.bills import JobBills
from deployments.jobs.duration import header_seconds
from deployments.jobs.errors import JobStoreBroken, WebhookRefused
from deployments.jobs.job import ENDED, Event, Job, NewJob
from deployments.jobs.leases import Leases
from deployments.jobs.outbox import Outbox
from deployments.jobs.prefer import Preference
from deployments.jobs.runner import JobRunner
from deployments.jobs.store import JobStore
from deployments.jobs.webhook import Webhooks, WebhookUndelivered
from deployments.service import Tagger
from deployments.turns import Turns
from reelsight.settings import Settings

__all__ = ["JobDesk"]

_LOG = logging.getLogger(__name__)
_SWEEP_S = 30.0
_POLL_S = 0.5
_POST_IDLE_S = 1.0
# One receiver that is slow does not hold up the others.
_POSTERS = 4


class JobDesk:
    """Jobs, while it is entered.

    Args:
        settings: Bounds.
        tagger: Tags.
        webhooks: Posts results; those of the settings when None.
    """

    def __init__(self, settings: Settings, tagger: Tagger, webhooks: Webhooks | None = None):
        self._settings, self._serve, self._tagger = settings, settings.serve, tagger
        secret = self._serve.webhook_secret
        self._webhooks = webhooks or Webhooks(
            self._serve.webhook_hosts, None if secret is None else secret.get_secret_value()
        )
        self._work, self.news = Bell(), Bell()
        self.bills = JobBills()
        self._store: JobStore | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> JobDesk:
        serve = self._serve
        store = self._store = await asyncio.to_thread(
            JobStore,
            self._settings.jobs_dir,
            max_jobs=serve.jobs_max,
            max_bytes=serve.jobs_max_bytes,
            ttl_s=serve.job_ttl_s,
        )
        cores = serve.decoders or len(os.sched_getaffinity(0))
        self._runner = JobRunner(
            Leases(store, attempts=serve.job_attempts, lease_s=serve.job_lease_s),
            store.uploads,
            self._tagger,
            self._work,
            self.news,
            at_once=serve.jobs_at_once or Turns.shared(cores, serve.job_share).jobs,
            timeout_s=serve.job_timeout_s,
        )
        outbox = Outbox(store, attempts=serve.webhook_attempts, backoff_s=serve.webhook_backoff_s)
        posters = (self._post(outbox) for _ in range(_POSTERS))
        loops = (self._runner.run(), self._sweep(store), self.bills.run(store, self.news), *posters)
        self._tasks = [asyncio.create_task(loop) for loop in loops]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()
        self._store = None
        for end in ends:
            if isinstance(end, Exception):
                raise end

    @property
    def store(self) -> JobStore:
        """The jobs."""
        if self._store is None:
            raise JobStoreBroken("jobs are not taken before the start, or after the end")
        return self._store

    def runs_later(self, preference: Preference, data: bytes) -> bool:
        """Whether a clip becomes a job, by what the client prefers and the header says."""
        seconds = header_seconds(data)
        serve = self._serve
        return preference.runs_later(len(data), seconds, serve.sync_bytes, serve.sync_seconds)

    async def submit(self, asked: NewJob, data: bytes) -> Job:
        """Take a job; no crash loses it once this has returned.

        Raises:
            WebhookRefused: Results are not posted there.
            JobStoreFull: No more are taken.
            JobStoreBroken: The disk does not take it.
        """
        if any(task.done() for task in self._tasks):
            raise JobStoreBroken("jobs are not run any more", hint="Restart the replica.")
        if asked.webhook is not None:
            self._webhooks.check(asked.webhook)
        job = await asyncio.to_thread(self.store.accept, asked, data)
        self._work.ring()
        return job

    async def get(self, job: str, reader: str | None = None) -> Job:
        """As JobStore."""
        return await asyncio.to_thread(self.store.get, job, reader)

    async def events(self, job: str, after: int) -> list[Event]:
        """As JobStore."""
        return await asyncio.to_thread(self.store.events, job, after)

    async def cancel(self, job: str, reader: str | None = None) -> Job:
        """As JobStore; work on it here ends at once, and elsewhere when its lease is renewed."""
        found = await asyncio.to_thread(self.store.cancel, job, reader)
        self._runner.look(job)
        self.news.ring()
        return found

    async def wait(self, job: str, at_most_s: float) -> Job:
        """A job when it has ended, or as it stands after so many seconds."""
        end = time.monotonic() + at_most_s
        while True:
            ring = self.news.next()
            found = await self.get(job)
            left = end - time.monotonic()
            if found.state in ENDED or left <= 0:
                return found
            await Bell.heard(ring, min(left, _POLL_S))

    async def _sweep(self, store: JobStore) -> None:
        while True:
            try:
                await asyncio.to_thread(store.sweep)
            except JobStoreBroken as error:
                _LOG.error("jobs: %s", error)
            await asyncio.sleep(_SWEEP_S)

    async def _post(self, outbox: Outbox) -> None:
        while True:
            ring = self.news.next()
            try:
                job = await asyncio.to_thread(outbox.claim)
                if job is not None:
                    await self._deliver(outbox, job)
                    continue
            except JobStoreBroken as error:
                _LOG.error("jobs: %s", error)
            await Bell.heard(ring, _POST_IDLE_S)

    async def _deliver(self, outbox: Outbox, job: Job) -> None:
        try:
            body = json.dumps(JobAnswer.of(job).message()).encode()
        except ValidationError as error:
            # A result in the words of another version: it must not end who posts the others.
            _LOG.error("the result of a job cannot be posted: %s", error)
            await asyncio.to_thread(outbox.refused, job, for_good=True)
            return
        try:
            await self._webhooks.post(job.asked.webhook or "", job.id, int(time.time()), body)
        except WebhookRefused as error:
            # The rules have changed since the job was taken, or the host moved inside.
            _LOG.warning("a webhook was refused: %s", error)
            await asyncio.to_thread(outbox.refused, job, for_good=True)
        except WebhookUndelivered as error:
            _LOG.warning("a webhook was not taken: %s", error)
            await asyncio.to_thread(outbox.refused, job)
        else:
            await asyncio.to_thread(outbox.delivered, job)
