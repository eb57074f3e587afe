"""How a request becomes a job, whichever route it came by."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from fastapi.responses import JSONResponse
from starlette.types import Scope

from deployments.jobs.answer import JobAnswer
from deployments.jobs.desk import JobDesk
from deployments.jobs.job import Job, NewJob
from deployments.jobs.prefer import Preference
from deployments.problems import told_again
from deployments.security.quota import CALLER, Caller, charged
from reelsight.media.magic import demuxer_for, is_still
from reelsight.media.sampler import Sampling

__all__ = ["POLL_S", "accepted", "answer_within", "reader_of", "taken"]

POLL_S = 1


async def taken(desk: JobDesk, scope: Scope, asked: NewJob, data: bytes, reserve: int) -> Job:
    """A job, after what can be refused at once has been; it is its caller's, who pays for it.

    Args:
        desk: Takes it.
        scope: Of the request.
        asked: What for; its owner is filled in.
        data: The clip.
        reserve: Frames that it is taken for until it is decoded.

    Raises:
        TooManyFrames: They are not there.
        ConfigError: Its sampling is none.
        MediaError: Its first bytes are no clip's.
        JobError: See JobDesk.
    """
    if asked.sampling is not None:
        Sampling.parse(asked.sampling)
    if not is_still(data):
        demuxer_for(data)
    asked = replace(asked, owner=key_of(scope))
    with charged(scope, reserve) as bill:
        try:
            job = await desk.submit(asked, data)
        except Exception:  # Boundary: whatever it was, no job was taken, and none is paid.
            bill.settle(0)
            raise
    desk.bills.keep(job.id, bill)
    return job


def key_of(scope: Scope) -> str | None:
    """Id of the key that a request has shown; None where none is asked for."""
    caller: Caller | None = scope.get(CALLER)
    return None if caller is None or caller.key is None else caller.key.id


def reader_of(scope: Scope) -> str | None:
    """The key whose jobs alone a request may see; None for all of them, as with scope `admin`."""
    caller: Caller | None = scope.get(CALLER)
    if caller is None or caller.key is None or caller.key.may("admin"):
        return None
    return caller.key.id


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
