"""Every refusal as RFC 9457 problem+json, with the code and the hint of the error it came from.

Knows the error tree and responses; which errors there are is no business of this module.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from deployments.request_id import request_id
from reelsight.errors import ReelsightError, RequestError
from reelsight.nouns.report import Failure

__all__ = [
    "CODE_HEADER",
    "PROBLEM",
    "ClipFailed",
    "Problem",
    "answer_with_problems",
    "described",
    "problem",
    "told_again",
]

MEDIA_TYPE = "application/problem+json"
# The code once more, for who does not read bodies: proxies, and our own log.
CODE_HEADER = "reelsight-code"
# Nobody reads it: the client left before its answer. The log does.
_GONE = 499


class Problem(BaseModel):
    """What went wrong and what to do next (RFC 9457)."""

    type: str = Field(description="URN of the code.", examples=["urn:reelsight:media.damaged"])
    title: str = Field(description="The HTTP status in words.")
    status: int
    detail: str = Field(description="What happened, with the offending value.")
    code: str = Field(description="Stable dotted code, for machines.")
    hint: str = Field(description="What to do next, for people.")
    retryable: bool = Field(description="Whether the same request may succeed later.")
    request_id: str


PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong and what to do next.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}


class ClipFailed(ReelsightError):
    """A clip that could not be tagged, as its Report says it.

    Args:
        failure: Of the Report.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, code=failure.code, hint=failure.hint)
        self._failure = failure
        self.stage = failure.stage
        self.retryable = failure.retryable
        # What the bytes are is the client's; what we or the store could not do is not. A failure of
        # stage `engine` is of its frames: what breaks the engine itself is raised, and blames none.
        self.http_status = 503 if failure.retryable else 422
        if failure.stage == "internal":
            self.http_status = 500

    def __reduce__(self) -> tuple[object, ...]:
        return (ClipFailed, (self._failure,))


class ProblemAnswer(JSONResponse):
    """A problem on its way out.

    Clients of other people's protocols read a member `error`, each in its own shape. RFC 9457 lets
    a problem have further members, so theirs stands beside ours on their routes.
    """

    media_type = MEDIA_TYPE

    def __init__(self, told: Problem, headers: dict[str, str]) -> None:
        self._told = told
        super().__init__(told.model_dump(), told.status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._error(scope["path"])
        if error is not None:
            self.body = self.render({**self._told.model_dump(), "error": error})
            self.headers["content-length"] = str(len(self.body))
        await super().__call__(scope, receive, send)

    def _error(self, path: str) -> str | dict[str, str | None] | None:
        told = self._told
        if path == "/v2" or path.startswith("/v2/"):  # The Open Inference Protocol.
            return told.detail
        if path == "/v1/embeddings":  # OpenAI.
            kind = "invalid_request_error" if told.status < 500 else "server_error"
            return {"message": told.detail, "type": kind, "param": None, "code": told.code}
        return None


def problem(error: ReelsightError) -> JSONResponse:
    """The answer to a request that an error ended."""
    headers = {CODE_HEADER: error.code}
    if error.http_status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return ProblemAnswer(_told(error, request_id()), headers)


def told_again(problem: dict[str, Any]) -> JSONResponse:
    """The answer to a request by a problem that was kept, as `described` gave it."""
    headers = {CODE_HEADER: problem["code"]}
    if problem["status"] in (429, 503):
        headers["Retry-After"] = "1"
    return ProblemAnswer(Problem.model_validate(problem), headers)


def described(error: ReelsightError, name: str) -> dict[str, Any]:
    """An error in the words of Problem, for the request of that name."""
    return _told(error, name).model_dump()


def _told(error: ReelsightError, name: str) -> Problem:
    return Problem(
        type=f"urn:reelsight:{error.code}",
        title=_title(error.http_status),
        status=error.http_status,
        detail=error.message,
        code=error.code,
        hint=error.hint,
        retryable=error.retryable,
        request_id=name,
    )


def _title(status: int) -> str:
    """The status in words; that of a client that has gone is nobody's standard."""
    return "Client Closed Request" if status == _GONE else HTTPStatus(status).phrase


def answer_with_problems(api: FastAPI) -> None:
    """Let every error of an application be answered as a problem, the framework's own too."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ReelsightError)
        return problem(error)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        words = {404: "request.no_route", 405: "request.method"}
        code = words.get(error.status_code, "request.invalid")
        return problem(RequestError(str(error.detail), status=error.status_code, code=code))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        where = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        return problem(RequestError(where, status=422, code="request.schema"))

    async def gone(_: Request, error: Exception) -> JSONResponse:
        # While its body came: nobody's bug, and nobody reads the answer.
        return problem(RequestError("the client has gone", status=_GONE, code="request.gone"))

    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        # The exception itself goes to the log; its words may hold what is not the client's.
        return problem(ReelsightError("this request met a bug", code="internal.unexpected"))

    api.add_exception_handler(ReelsightError, ours)
    api.add_exception_handler(HTTPException, http)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(ClientDisconnect, gone)
    api.add_exception_handler(Exception, unexpected)
