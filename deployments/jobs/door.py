"""How a request becomes a job, whichever route it came by."""

from __future__ import annotations

import asyncio

from fastapi.responses import JSONResponse

from deployments.jobs.answer import JobAnswer
from deployments.jobs.desk import JobDesk
from deployments.jobs.job import Job, NewJob
from deployments.jobs.prefer import Preference
from deployments.problems import told_again
from reelsight.media.magic import demuxer_for, is_still
from reelsight.media.sampler import Sampling

__all__ = ["POLL_S", "accepted", "answer_within", "taken"]

POLL_S = 1


async def taken(desk: JobDesk, asked: NewJob, data: bytes) -> Job:
    """A job, after what can be refused at once has been.

    Raises:
        ConfigError: Its sampling is none.
        MediaError: Its first bytes are no clip's.
        JobError: See JobDesk.
    """
    if asked.sampling is not None:
        Sampling.parse(asked.sampling)
    if not is_still(data):
        demuxer_for(data)
    return await desk.submit(asked, data)


def accepted(job: Job, preference: Preference) -> JSONResponse:
    """The 202 of a job."""
    headers = {
        "Location": f"/v1/jobs/{job.id}",
        "Retry-After": str(POLL_S),
        **preference.applied,
    }
    return JSONResponse(JobAnswer.of(job).model_dump(mode="json"), 202, headers)


async def answer_within(desk: JobDesk, job: Job, wait_s: float) -> JSONResponse | None:
    """What POST /v1/tags answers for a job, if it ends while the client waits; else None.

    A client that leaves meanwhile has no name to ask for: its job is cancelled.
    """
    if wait_s <= 0:
        return None
    try:
        ended = await desk.wait(job.id, wait_s)
    except asyncio.CancelledError:
        await asyncio.shield(desk.cancel(job.id))
        raise
    if ended.result is not None:
        return JSONResponse(ended.result)
    if ended.problem is not None:
        return told_again(ended.problem)
    return None
