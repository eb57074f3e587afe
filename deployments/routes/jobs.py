"""/v1/jobs: a clip that is answered later, and what has become of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from deployments.jobs.answer import JobAnswer, JobRequest
from deployments.jobs.desk import JobDesk
from deployments.jobs.door import POLL_S, accepted, reader_of, taken
from deployments.jobs.job import ENDED, NewJob
from deployments.jobs.prefer import Preference
from deployments.jobs.stream import JobStreams
from deployments.problems import PROBLEM
from deployments.request_id import request_id
from deployments.routes.tags import clip_body, expected_frames, read_body
from deployments.security.web_fetch import WebFetch
from deployments.service import Tagger

__all__ = ["job_routes"]

_Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events queued, running, progress, done, failed, expired; the last has all.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "The last event was seen: there is nothing to come back for."},
}


def job_routes(
    desk: JobDesk,
    tagger: Tagger,
    web: WebFetch | None = None,
    streams: JobStreams | None = None,
    reserve_frames: int = 32,
) -> APIRouter:
    """The routes over a desk. To a key there are its own jobs alone.

    Args:
        desk: Takes jobs.
        tagger: Whose sampling is that of a job which names none.
        web: Fetches what a request names by uri; None for nothing.
        streams: Of their events.
        reserve_frames: What a clip is taken for until it is decoded.
    """
    router = APIRouter(tags=["jobs"])
    listening = streams or JobStreams(desk)

    @router.post(
        "/v1/jobs",
        summary="Tag a clip later",
        status_code=202,
        response_model=JobAnswer,
        responses=PROBLEM,
        openapi_extra=clip_body("JobRequest", webhook={"type": "string", "maxLength": 2048}),
    )
    async def submit(
        request: Request,
        clip_id: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
        sampling: Annotated[str | None, Query(max_length=64)] = None,
        webhook: Annotated[str | None, Query(max_length=2048)] = None,
    ) -> Response:
        """Take a clip, as POST /v1/tags takes it; the answer names the job, which no crash loses.

        A webhook's host must be one of those that results are posted to.
        """
        data, fields = await read_body(request, JobRequest, web)
        asked = NewJob(
            clip_id=fields.get("clip_id") or clip_id or request_id(),
            request_id=request_id(),
            sampling=fields.get("sampling") or sampling,
            webhook=fields.get("webhook") or webhook,
        )
        preference = Preference.parse(request.headers.get("prefer", ""))
        frames = expected_frames(asked.sampling, tagger.plan, reserve_frames)
        return accepted(await taken(desk, request.scope, asked, data, frames), preference)

    @router.get("/v1/jobs/{job_id}", response_model=JobAnswer, responses=PROBLEM)
    async def look(job_id: _Id, request: Request, response: Response) -> JobAnswer:
        """A job as it stands, with its result or its problem when it has ended."""
        job = await desk.get(job_id, reader_of(request.scope))
        if job.state not in ENDED:
            response.headers["Retry-After"] = str(POLL_S)
        return JobAnswer.of(job)

    @router.delete("/v1/jobs/{job_id}", status_code=204, responses=PROBLEM)
    async def cancel(job_id: _Id, request: Request) -> Response:
        """Cancel a job that has not ended, or forget the result of one that has."""
        await desk.cancel(job_id, reader_of(request.scope))
        return Response(status_code=204)

    @router.get(
        "/v1/jobs/{job_id}/events",
        response_class=StreamingResponse,
        responses={**_EVENTS, **PROBLEM},
    )
    async def events(
        job_id: _Id,
        request: Request,
        last_event_id: Annotated[int, Header(ge=0, le=1 << 53)] = 0,
    ) -> Response:
        """What happens to a job, from the event after Last-Event-ID on, up to its result."""
        job = await desk.get(job_id, reader_of(request.scope))
        if job.state in ENDED and not await desk.events(job_id, last_event_id):
            return Response(status_code=204)
        listening.check()
        return StreamingResponse(
            listening.of(job_id, last_event_id),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router
