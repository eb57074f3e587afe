"""Bodies are bounded while they come: in bytes and in time, before anything reads them."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.problems import problem
from reelsight.errors import RequestError

__all__ = ["BodyCap"]


class BodyCap:
    """ASGI middleware that ends requests whose body is too large, too slow, or compressed.

    Args:
        app: What answers.
        max_bytes: Largest body.
        timeout_s: Seconds within which all of it must have come.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self._app, self._max_bytes, self._timeout_s = app, max_bytes, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {key.lower(): value for key, value in scope["headers"]}
        try:
            self._check(headers)
        except RequestError as error:
            await problem(error)(scope, receive, send)
            return
        body = _Bounded(receive, self._max_bytes, self._timeout_s)
        await self._app(scope, body.receive, send)

    def _check(self, headers: dict[bytes, bytes]) -> None:
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding != b"identity":
            # What a compressed body unpacks to is not known before it is unpacked.
            raise RequestError(
                "the body is compressed",
                status=415,
                code="request.encoding",
                hint="Send it as it is, without Content-Encoding.",
            )
        length = headers.get(b"content-length")
        if length is not None and not _fits(length, self._max_bytes):
            raise _too_large(self._max_bytes)


class _Bounded:
    """The way a body comes in, counted."""

    def __init__(self, receive: Receive, max_bytes: int, timeout_s: float) -> None:
        self._receive, self._left, self._max_bytes = receive, max_bytes, max_bytes
        self._timeout_s, self._deadline = timeout_s, time.monotonic() + timeout_s
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        left = max(0.0, self._deadline - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), left)
        except TimeoutError:
            raise RequestError(
                f"the body did not come within {self._timeout_s:g} s",
                status=408,
                code="request.slow_body",
                hint="Send it faster, or in a job.",
            ) from None
        self._left -= len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        if self._left < 0:
            raise _too_large(self._max_bytes)
        return message


def _fits(length: bytes, max_bytes: int) -> bool:
    # int() itself raises where there are thousands of digits.
    return length.isdigit() and len(length) < 20 and int(length) <= max_bytes


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        f"the body is larger than {max_bytes} bytes",
        status=413,
        code="request.too_large",
        hint="Raise media.limits.max_bytes if clips like this are expected.",
    )
