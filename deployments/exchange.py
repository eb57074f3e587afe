"""Exchange: one request and its answer, as its log line and the meters tell of it.

The middleware makes one for each request; whatever answers notes in it what only it knows. It sees
neither bodies nor headers, so no secret can reach a log by it.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.meters import Meters
from deployments.problems import CODE_HEADER, problem
from reelsight.errors import ReelsightError

__all__ = ["Exchange", "Observed", "note"]

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
# Asked every few seconds by machines: told at debug level, unless they fail.
_QUIET = frozenset({"/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
_log = logging.getLogger("reelsight.request")


@dataclass(slots=True)
class Exchange:
    """What is known of a request.

    Attributes:
        status: HTTP status of the answer; 0 before it begins.
        code: Of the problem that it was answered with; None when it was not.
        frames: Frames looked at.
        bank: Name and the first 12 hex digits of the bank that answered.
    """

    status: int = 0
    code: str | None = None
    frames: int | None = None
    bank: str | None = None


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def note(*, frames: int | None = None, bank: tuple[str, str] | None = None) -> None:
    """Tell the request's log line what answered.

    Args:
        frames: Frames looked at.
        bank: Name and hash.
    """
    exchange = _current.get()
    if exchange is None:
        return
    if frames is not None:
        exchange.frames = frames
    if bank is not None:
        exchange.bank = f"{bank[0]}-{bank[1][:12]}"


class Observed:
    """ASGI middleware: times and counts every request and writes its line.

    It ends what no handler foresaw, so that its answer and its log line carry the request's name.

    Args:
        app: What answers.
        meters: Count.
    """

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app, self._meters = app, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange, started = Exchange(), time.perf_counter()
        token = _current.set(exchange)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                exchange.code = _code(message)
            await send(message)

        self._meters.in_flight.inc()
        try:
            await self._answer(scope, receive, watched, exchange)
        finally:
            self._meters.in_flight.dec()
            _current.reset(token)
            self._tell(scope, exchange, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:  # Boundary: the last before the server, which knows no problems.
            _log.exception("a request met a bug")
            if exchange.status:
                raise
            bug = ReelsightError("this request met a bug", code="internal.unexpected")
            await problem(bug)(scope, receive, send)

    def _tell(self, scope: Scope, exchange: Exchange, seconds: float) -> None:
        route = _route(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._meters.answered(route, method, exchange.status, seconds)
        if exchange.code is not None:
            self._meters.rejected(exchange.code)
        level = logging.DEBUG if route in _QUIET and exchange.status < 400 else logging.INFO
        facts = {
            "method": method,
            "route": route,
            "status": exchange.status,
            "code": exchange.code,
            "seconds": round(seconds, 6),
            "frames": exchange.frames,
            "bank": exchange.bank,
        }
        _log.log(level, "request", extra={"facts": facts})


def _route(scope: Scope) -> str:
    """The template of the route that answered: never the path, which may hold names."""
    path: str = getattr(scope.get("route"), "path", "") or "unmatched"
    return path


def _code(message: Message) -> str | None:
    """The problem's code, as its answer's own header says it."""
    return next((v.decode() for key, v in message["headers"] if key == CODE_HEADER.encode()), None)
