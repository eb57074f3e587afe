"""Bills of jobs: what a key has paid for a clip that is answered later, until its cost is known.

States of a bill: reserved -> settled (its job has ended) | kept (this process ended first). A bill
is of the replica that took the job, as its bucket is; whoever runs the job writes how many frames
it decoded beside it, and that is read here.
"""

from __future__ import annotations

import asyncio
import logging

from deployments.jobs.bell import Bell
from deployments.jobs.errors import JobCancelled, JobExpired, JobStoreBroken, JobUnknown
from deployments.jobs.job import ENDED, Job
from deployments.jobs.store import JobStore
from deployments.security.quota import Bill

__all__ = ["JobBills"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 30.0
_PAUSE_S = 0.25


class JobBills:
    """Open bills, by job. It belongs to one event loop."""

    def __init__(self) -> None:
        self._open: dict[str, Bill] = {}

    def keep(self, job: str, bill: Bill) -> None:
        """Settle a bill when its job has ended."""
        if bill.counted:
            self._open[job] = bill

    async def run(self, store: JobStore, news: Bell) -> None:
        """Settle bills until cancelled."""
        while True:
            ring = news.next()
            try:
                for name in list(self._open):
                    await self._look(store, name)
            except JobStoreBroken as error:
                _LOG.error("jobs: %s", error)
            # News of other processes' jobs does not ring here.
            await Bell.heard(ring, _LOOK_S)
            await asyncio.sleep(_PAUSE_S)

    async def _look(self, store: JobStore, name: str) -> None:
        try:
            job = await asyncio.to_thread(store.get, name)
        except (JobExpired, JobUnknown):
            del self._open[name]  # What it cost is forgotten: it has paid what was reserved.
            return
        if job.state in ENDED:
            bill = self._open.pop(name)
            bill.settle(_frames(job, bill.reserved))


def _frames(job: Job, reserved: int) -> int:
    """What a job that has ended costs, by the rules of a request: see `security.quota.charged`."""
    problem = job.problem or {}
    if problem.get("code") == JobCancelled.code:
        return (job.decoded or reserved) if job.attempts else 0
    if problem.get("status", 0) >= 500:
        return 0
    return max(1, job.decoded or 0)
