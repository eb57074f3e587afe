"""Admission: whether a request can be held at all is decided before its body is read.

Two bounds, on requests and on the bytes of their bodies, are what a replica can be made to hold. A
body that says its length reserves it at once; another is counted while it comes. What was reserved
is given back when the request ends, however it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.jobs.prefer import Preference
from deployments.problems import problem
from reelsight.errors import Overloaded, RequestError

__all__ = ["Admission", "Room", "hold_beside"]

_WITH_BODY = ("POST", "PUT", "PATCH")
_HELD = "reelsight.held"
_LONGEST_WAIT_S = 30.0
_MEMORY = 0.1  # Share of the newest request in the mean of their seconds.


class Room:
    """What a replica holds. It belongs to one event loop.

    Args:
        max_requests: At a time.
        max_bytes: Of their bodies, and of what is fetched for them, together.
        full: Whether a clip that comes now would be refused by what decodes it.
    """

    def __init__(
        self, max_requests: int, max_bytes: int, full: Callable[[], bool] = lambda: False
    ) -> None:
        self._max_requests, self._max_bytes, self._full = max_requests, max_bytes, full
        self.requests = 0
        self.bytes = 0
        self._mean_s = 0.0

    @property
    def full(self) -> bool:
        """Whether a clip to decode that comes now is refused, whatever its body."""
        return self.requests >= self._max_requests or self._full()

    def enter(self, length: int, *, decodes: bool = True) -> None:
        """Let a request in, with as many bytes of body as it says.

        Args:
            length: Bytes.
            decodes: Whether it takes a decoder now. A job waits for its turn, and whoever rolls
                back a bank needs none: these are let in while clips are refused.

        Raises:
            Overloaded: There is no room; it says when there may be.
        """
        if self.requests >= self._max_requests or (decodes and self._full()):
            raise self._overloaded(f"{self.requests} requests are under way")
        self.hold(length)
        self.requests += 1

    def hold(self, count: int) -> None:
        """Hold bytes of a body.

        Raises:
            Overloaded: They do not fit beside the others. One body alone always fits.
        """
        if self.bytes and self.bytes + count > self._max_bytes:
            raise self._overloaded(f"{self.bytes} bytes of bodies are held")
        self.bytes += count

    def leave(self, held: int, seconds: float) -> None:
        """A request that was let in has ended, with so many bytes held."""
        self.requests -= 1
        self.bytes -= held
        self._mean_s += _MEMORY * (seconds - self._mean_s)

    def _overloaded(self, why: str) -> Overloaded:
        error = Overloaded(why, code="serve.overloaded", hint="Try again after Retry-After.")
        error.retry_after_s = min(_LONGEST_WAIT_S, max(1.0, self._mean_s))
        return error


class Admission:
    """ASGI middleware.

    Args:
        app: What answers.
        room: Of the replica.
    """

    def __init__(self, app: ASGIApp, room: Room) -> None:
        self._app, self._room = app, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length")
        length = int(said) if said and said.isdigit() else 0
        started = time.monotonic()
        try:
            self._room.enter(length, decodes=_decodes(scope))
        except Overloaded as error:
            await problem(error)(scope, receive, send)
            return
        body = _Held(receive, self._room, length)
        scope[_HELD] = body
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._room.leave(body.held, time.monotonic() - started)


def hold_beside(scope: Scope, count: int) -> None:
    """Hold bytes that a request has brought in by another way than its body, until it ends.

    Args:
        scope: Of the request; where nobody counts, nothing happens.
        count: Of bytes.

    Raises:
        Overloaded: They do not fit beside the others.
    """
    body: _Held | None = scope.get(_HELD)
    if body is not None:
        body.beside(count)


def _decodes(scope: Scope) -> bool:
    """Whether a request is a clip that wants a decoder now, as far as its head says."""
    if scope["path"].endswith("/v1/marks"):
        return True
    if not scope["path"].endswith("/v1/tags"):
        return False
    try:
        return not Preference.of(scope).later
    except RequestError:
        return False  # Its route says so, and reads no body.


class _Held:
    """A body on its way in, and the bytes that are held for it."""

    def __init__(self, receive: Receive, room: Room, held: int) -> None:
        self._receive, self._room = receive, room
        self._come = 0
        self.held = held

    def beside(self, count: int) -> None:
        self._room.hold(count)
        self.held += count
        self._come += count

    async def receive(self) -> Message:
        message = await self._receive()
        self._come += len(message.get("body", b""))
        if self._come > self.held:
            self._room.hold(self._come - self.held)
            self.held = self._come
        return message
