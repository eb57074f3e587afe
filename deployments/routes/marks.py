"""POST /v1/marks: a clip or a still, in one of three bodies, to the verdict whose copy it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from deployments.exchange import note
from deployments.marks.desk import TraceDesk
from deployments.marks.reading import MarkJob, MarkReader
from deployments.meters import Meters
from deployments.problems import PROBLEM, ClipFailed
from deployments.request_id import request_id
from deployments.routes.tags import clip_body, read_body, while_connected
from deployments.security.quota import charged
from deployments.security.web_fetch import WebFetch
from reelsight.copies.reading import views_of
from reelsight.errors import RequestError
from reelsight.marks.evidence import trace_document
from reelsight.marks.times import utc_now
from reelsight.media.sampler import Sampling
from reelsight.nouns.mark_trace import Trace

__all__ = ["MarkDoor", "mark_routes"]


@dataclass(frozen=True, slots=True)
class MarkDoor:
    """What the route is over.

    Attributes:
        reader: Reads marks.
        desk: Compares them, in this process.
    """

    reader: MarkReader
    desk: TraceDesk


def mark_routes(
    marks: MarkDoor | None,
    meters: Meters,
    timeout_s: float,
    web: WebFetch | None = None,
    reserve_frames: int = 32,
) -> APIRouter:
    """The route.

    Args:
        marks: What it is over; None where no pair is set.
        meters: Count.
        timeout_s: Seconds for a request that asks for no less.
        web: Fetches what a request names by uri; None for nothing.
        reserve_frames: What a clip is taken for until it is decoded.
    """
    router = APIRouter(tags=["marks"])

    @router.post(
        "/v1/marks",
        summary="Say whose copy a clip is",
        response_model=Trace,
        responses=PROBLEM,
        openapi_extra=clip_body("UriRequest"),
    )
    async def trace(
        request: Request,
        clip_id: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
        sampling: Annotated[str | None, Query(max_length=64)] = None,
        search: Annotated[bool | None, Query()] = None,
        asset: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
        tried_before: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        timeout_ms: Annotated[int | None, Query(ge=1, le=3_600_000)] = None,
    ) -> Response:
        """Whose copy a clip is, with a bound on the chance that an innocent is named.

        The body is as for /v1/tags, and is never a job. The answer is what `reelsight mark trace
        --json` gives. It opens the codes of whoever is accused: keep it to yourself.
        """
        started, received = time.monotonic(), utc_now()
        limit = timeout_s if timeout_ms is None else min(timeout_s, timeout_ms / 1000)
        if marks is None:
            raise _not_served()
        data, fields = await read_body(request, web=web)
        looked = fields.get("sampling") or sampling
        plan = marks.reader.plan
        wanted = plan.marks.sampling if looked is None else Sampling.parse(looked)
        views = len(views_of(plan.marks.search if search is None else search))
        count = wanted.count if wanted.policy == "count" else reserve_frames
        deadline = started + limit
        job = MarkJob(
            clip_id=fields.get("clip_id") or clip_id or request_id(),
            data=data,
            deadline=deadline,
            sampling=wanted,
            search=search,
        )
        expected = views * min(count, plan.limits.max_frames)
        with charged(request.scope, expected, hurried=limit < timeout_s) as bill:
            read = await while_connected(request, marks.reader.read(job))
            bill.settle(max(1, sum(len(attempt) for attempt in read.attempts)))
            if read.failure is not None:
                raise ClipFailed(read.failure)
            work = marks.desk.trace(
                read, received, deadline, asset=asset, tried_before=tried_before
            )
            found: Trace = await while_connected(request, work)
        note(frames=len(read.attempts[0]))
        meters.traced(found.verdict)
        headers = {"Cache-Control": "no-store"}
        return Response(trace_document(found), headers=headers, media_type="application/json")

    return router


def _not_served() -> RequestError:
    return RequestError(
        "this service traces no marks: marks.key_file is not set",
        status=404,
        code="marks.not_served",
        hint="Whoever runs it sets marks.key_file (mode 0600) and marks.ledger.",
    )
