"""Closing the door: what is under way is finished, what comes is sent elsewhere.

States: open -> draining -> idle (draining, with nothing under way). There is no way back: the
process ends. A process that is killed while draining loses what was under way, and its clients see
a broken connection, which is retryable.
"""

from __future__ import annotations

import asyncio
from functools import cache

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.problems import problem
from reelsight.errors import Overloaded

__all__ = ["Drain", "DrainGate", "Draining", "process_drain"]

_ASKED_OF_ALL = ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")


class Draining(Overloaded):
    """The door is closing."""

    code = "serve.draining"
    hint = "Try again: another replica answers."


class Drain:
    """Whether the door is closing, and how much is under way. It belongs to one event loop."""

    def __init__(self) -> None:
        self._begun = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def begun(self) -> bool:
        """Whether new requests are refused."""
        return self._begun

    @property
    def under_way(self) -> int:
        """Requests that are being answered."""
        return self._under_way

    def begin(self) -> None:
        """Refuse new requests from now on; idempotent."""
        self._begun = True

    async def idle(self, timeout_s: float) -> bool:
        """Wait until nothing is under way; False where that took too long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def enter(self) -> None:
        """A request has come.

        Raises:
            Draining: The door is closing.
        """
        if self._begun:
            raise Draining("this replica is closing")
        self._under_way += 1
        self._idle.clear()

    def leave(self) -> None:
        """A request has gone."""
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()


@cache
def process_drain() -> Drain:
    """The one of this process, where it holds one replica."""
    return Drain()


class DrainGate:
    """ASGI middleware that counts requests, and refuses them while the door closes.

    Args:
        app: What answers.
        drain: The door's state.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app, self._drain = app, drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ASKED_OF_ALL:
            await self._app(scope, receive, send)
            return

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and self._drain.begun:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            self._drain.enter()
        except Draining as error:
            await problem(error)(scope, receive, closing)
            return
        try:
            await self._app(scope, receive, closing)
        finally:
            self._drain.leave()
