"""The name of a request, in its answer, its log lines and its problems."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["RequestId", "request_id"]

HEADER = "x-request-id"
_FIT = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="-")


def request_id() -> str:
    """Of the request that is being answered; `-` outside of one."""
    return _current.get()


class RequestId:
    """ASGI middleware: takes the client's X-Request-Id where it is fit to be logged, or makes one.

    Args:
        app: What answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = given_id(scope) or uuid.uuid4().hex
        token = _current.set(name)

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER.encode(), name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            _current.reset(token)


def given_id(scope: Scope) -> str | None:
    """The client's own name of a request, or None where it sent none that is fit."""
    for key, value in scope["headers"]:
        if key == HEADER.encode():
            text = value.decode("latin-1")
            return text if _FIT.fullmatch(text) else None
    return None
