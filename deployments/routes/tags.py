"""POST /v1/tags: a clip or a still, in one of three bodies, to its labels."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from deployments.admission import hold_beside
from deployments.exchange import note
from deployments.jobs.answer import JobAnswer
from deployments.jobs.desk import JobDesk
from deployments.jobs.door import accepted, answer_within, taken
from deployments.jobs.job import NewJob
from deployments.jobs.prefer import Preference
from deployments.problems import PROBLEM, ClipFailed
from deployments.request_id import request_id
from deployments.schemas import TagAnswer, UriRequest
from deployments.security.quota import charged
from deployments.security.web_fetch import WebFetch
from deployments.service import Tagger, TagJob
from deployments.small_body import read_small
from reelsight.errors import FetchError, RequestError
from reelsight.media.sampler import Sampling
from reelsight.plan import TaggingPlan

__all__ = ["clip_body", "expected_frames", "read_body", "tag_routes", "while_connected"]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_JSON_BYTES = 1 << 16
_FIELD_BYTES = 1 << 12
_LONGEST = {"clip_id": 256, "sampling": 64, "webhook": 2048}


def clip_body(schema: str, **fields: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of the bodies.

    Args:
        schema: Of the JSON.
        fields: Further fields of the form.
    """
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "clip_id": {"type": "string", "minLength": 1, "maxLength": 256},
            "sampling": {"type": "string", "maxLength": 64},
            **fields,
        },
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {"schema": form},
                "application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}},
                "application/octet-stream": _BINARY,
                "video/*": _BINARY,
                "image/*": _BINARY,
            },
        }
    }


def tag_routes(
    tagger: Tagger,
    timeout_s: float,
    desk: JobDesk,
    web: WebFetch | None = None,
    reserve_frames: int = 32,
) -> APIRouter:
    """The route over a tagger.

    Args:
        tagger: Tags.
        timeout_s: Seconds for a request that asks for no less.
        desk: Takes what is answered later.
        web: Fetches what a request names by uri; None for nothing.
        reserve_frames: What a clip is taken for until it is decoded.
    """
    router = APIRouter(tags=["tags"])

    @router.post(
        "/v1/tags",
        summary="Tag a clip or a still",
        response_model=TagAnswer,
        responses={202: {"model": JobAnswer, "description": "It became a job."}, **PROBLEM},
        openapi_extra=clip_body("UriRequest"),
    )
    async def tag(
        request: Request,
        clip_id: Annotated[str | None, Query(min_length=1, max_length=256)] = None,
        sampling: Annotated[str | None, Query(max_length=64)] = None,
        timeout_ms: Annotated[int | None, Query(ge=1, le=3_600_000)] = None,
    ) -> TagAnswer | Response:
        """Which labels a clip shows, and when.

        The body is the file itself, or a form with the field `file`. What it is, its first bytes
        say, not its name or type. A long clip becomes a job, unless `Prefer: wait=30` says that the
        client waits; any clip does after `Prefer: respond-async`, and where both are said, when the
        time is over.
        """
        started = time.monotonic()
        limit = timeout_s if timeout_ms is None else min(timeout_s, timeout_ms / 1000)
        prefers = Preference.parse(request.headers.get("prefer", ""))
        data, fields = await read_body(request, web=web)
        named = fields.get("clip_id") or clip_id or request_id()
        looked = fields.get("sampling") or sampling
        frames = expected_frames(looked, tagger.plan, reserve_frames)
        if desk.runs_later(prefers, data):
            asked = NewJob(named, request_id(), looked)
            later = await taken(desk, request.scope, asked, data, frames)
            waiting = answer_within(desk, later, min(limit, prefers.wait_s or 0))
            now = await while_connected(request, waiting)
            return accepted(later, prefers) if now is None else now
        limit = limit if prefers.wait_s is None else min(limit, prefers.wait_s)
        job = TagJob(
            clip_id=named,
            data=data,
            deadline=started + limit,
            sampling=None if looked is None else Sampling.parse(looked),
        )
        with charged(request.scope, frames, hurried=limit < timeout_s) as bill:
            report = await while_connected(request, tagger.tag(job))
            bill.settle(max(1, len(report.pts)))
        note(frames=len(report.pts), bank=(report.provenance.bank, report.provenance.bank_hash))
        if report.failure is not None:
            raise ClipFailed(report.failure)
        return TagAnswer.of(report, request_id())

    return router


def expected_frames(looked: str | None, plan: TaggingPlan, otherwise: int) -> int:
    """Frames that a clip is taken for before it is decoded.

    Args:
        looked: The sampling that was asked for; the plan's when None.
        plan: Else.
        otherwise: Where the sampling names no count.

    Raises:
        ConfigError: It is no sampling.
    """
    sampling = plan.sampling if looked is None else Sampling.parse(looked)
    return min(sampling.count if sampling.policy == "count" else otherwise, plan.limits.max_frames)


async def read_body(
    request: Request, known: type[UriRequest] = UriRequest, web: WebFetch | None = None
) -> tuple[bytes, dict[str, str]]:
    """The file's bytes and the fields beside it.

    Args:
        request: With its body unread.
        known: What a JSON body is; a form has `file` for its `uri`.
        web: Fetches a uri; None for a door that takes none.

    Raises:
        RequestError: The body is none of the three, or holds no file.
        FetchError: `fetch.scheme_refused` or `fetch.refused`: the uri is not fetched.
        Overloaded: Too many uris are fetched, or what they hold does not fit.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form(request, known)
    if kind == "application/json":
        asked = _json(await read_small(request, _JSON_BYTES), known)
        if web is None:
            raise FetchError("this route fetches nothing", code="fetch.scheme_refused")
        told = asked.model_dump(exclude={"uri"}, exclude_none=True)
        data: bytes = await while_connected(request, web.fetch(asked.uri))
        hold_beside(request.scope, len(data))
        return data, told
    if kind == "application/octet-stream" or kind.partition("/")[0] in ("video", "image"):
        return _some(await request.body()), {}
    raise RequestError(
        f"a body of type {kind or 'nothing'!r} is not taken",
        status=415,
        code="request.content_type",
        hint="Send multipart/form-data with `file`, or the file as application/octet-stream.",
    )


async def _form(request: Request, known: type[UriRequest]) -> tuple[bytes, dict[str, str]]:
    try:
        form = await request.form(max_files=1, max_fields=8, max_part_size=_FIELD_BYTES)
    except HTTPException as error:
        raise RequestError(str(error.detail), code="request.form") from error
    async with form_closed(form):
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise RequestError(
                "the form has no file",
                status=422,
                code="request.no_file",
                hint="Send the clip in the form's field `file`.",
            )
        strange = sorted(set(form) - (set(known.model_fields) - {"uri"} | {"file"}))
        if strange:
            raise RequestError(
                f"the form has fields that are not known: {strange}",
                status=422,
                code="request.form",
            )
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        for name, value in fields.items():
            if len(value) > _LONGEST[name]:
                raise RequestError(
                    f"{name} has {len(value)} characters, at most {_LONGEST[name]} are taken",
                    status=422,
                    code="request.schema",
                )
        return _some(await file.read()), fields


class form_closed:  # noqa: N801 - used as a statement.
    """Closes the form's files, whatever happens to them."""

    def __init__(self, form: Any) -> None:
        self._form = form

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        await self._form.close()


def _json(body: bytes, known: type[UriRequest]) -> UriRequest:
    try:
        return known.model_validate_json(body)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RequestError(where, status=422, code="request.schema") from error


def _some(data: bytes) -> bytes:
    if not data:
        raise RequestError("the file is empty", status=422, code="request.empty")
    return data


async def while_connected(request: Request, work: Any) -> Any:
    """Wait for work as long as the client does; what nobody waits for is cancelled.

    Raises:
        RequestError: `request.gone`; nobody reads it.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise RequestError("the client has gone", status=499, code="request.gone")
    finally:
        for waiting in (task, watch):
            waiting.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue
