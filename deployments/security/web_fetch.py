"""Bytes behind an http uri, asked of an address that was checked.

States of a fetch: read -> allowed -> resolved -> connected to the checked address -> headers taken
-> body counted -> bytes. Each arrow is a refusal or goes on; every refusal is the same problem to
the client, and its reason is a line in the log. Nothing is followed, unpacked, retried or kept, no
proxy of the environment is asked, and no cookie or credential is sent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import httpcore

from deployments.security.address import is_public
from deployments.security.web_target import TargetRefused, WebTarget, allowed_target
from reelsight.errors import FetchError, Overloaded
from reelsight.settings import FetchSettings

__all__ = ["Resolve", "WebFetch", "resolve_by_name"]

Resolve = Callable[[str, int], Awaitable[list[str]]]

_log = logging.getLogger(__name__)
_GRACE_S = 2.0
_AGENT = b"reelsight"


async def resolve_by_name(host: str, port: int) -> list[str]:
    """Every address of a name, as the system resolves it.

    Raises:
        OSError: It has none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class WebFetch:
    """Fetches for requests. It belongs to one event loop.

    Args:
        settings: What may be asked, and how long it may take.
        max_bytes: Largest body, where the settings do not say less.
        resolve: Names to addresses.
        public: Whether an address may be connected to.
        tls: For https; the system's trust when None.
    """

    def __init__(
        self,
        settings: FetchSettings,
        max_bytes: int,
        resolve: Resolve = resolve_by_name,
        public: Callable[[str], bool] = is_public,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._max_bytes = min(settings.max_bytes, max_bytes)
        self._resolve, self._public = resolve, public
        # Made once: reading the system's trust takes tens of milliseconds of the event loop.
        self._tls = tls or (ssl.create_default_context() if settings.hosts else None)
        self.under_way = 0

    async def fetch(self, uri: str) -> bytes:
        """The bytes behind a uri, 1 to `max_bytes` of them.

        Raises:
            FetchError: `fetch.scheme_refused` where fetching is off; else `fetch.refused`, with
                the same words whatever the reason.
            Overloaded: Too many fetches are under way.
        """
        if not self._settings.hosts:
            raise FetchError(
                "the uri cannot be fetched: fetching is off",
                code="fetch.scheme_refused",
                hint="Send the file itself.",
            )
        if self.under_way >= self._settings.at_once:
            raise Overloaded(f"{self.under_way} fetches are under way", code="fetch.overloaded")
        self.under_way += 1
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._bytes(uri)
        except (
            TargetRefused,
            OSError,  # TimeoutError is one.
            UnicodeError,  # What getaddrinfo says of labels that are too long.
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            httpcore.UnsupportedProtocol,
        ) as error:
            # Neither the reason nor its timing class is the client's: it may be asking what this
            # service can reach. The uri's own words may be secrets; they are not repeated.
            _log.warning("a uri was not fetched: %s: %s", type(error).__name__, error)
            raise FetchError(
                "the uri cannot be fetched",
                code="fetch.refused",
                hint="It must be a plain file on a host that this service is set to ask; or send "
                "the file itself.",
            ) from None
        finally:
            self.under_way -= 1

    async def _bytes(self, uri: str) -> bytes:
        target = allowed_target(uri, self._settings.hosts, self._settings.ports)
        addresses = await self._resolve(target.host, target.port)
        if not addresses or not all(self._public(address) for address in addresses):
            raise TargetRefused(f"{target.host} has no address, or one that is not public")
        line = _Pinned(target, addresses[0])
        try:
            async with (
                httpcore.AsyncConnectionPool(
                    ssl_context=self._tls,
                    max_connections=1,
                    retries=0,
                    network_backend=line,
                ) as pool,
                pool.stream("GET", _url(target), headers=_headers(target)) as answer,
            ):
                self._check(answer.status, answer.headers)
                return await self._body(answer.aiter_stream())
        finally:
            # The pool forgets a connection that is given up in the middle of its TLS handshake.
            await line.close()

    def _check(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if status != 200:
            raise TargetRefused(f"status {status}")
        for name, value in headers:
            lower = name.lower()
            if lower == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
                raise TargetRefused("the answer is encoded, which was not asked for")
            if lower == b"content-length" and not 0 < int(value) <= self._max_bytes:
                raise TargetRefused("the answer says that it is empty or too large")

    async def _body(self, chunks: AsyncIterator[bytes]) -> bytes:
        body, slowest = bytearray(), self._settings.min_bytes_per_s
        clock = asyncio.get_running_loop().time
        started = clock()
        async with asyncio.timeout(_GRACE_S) as due:
            async for chunk in chunks:
                body += chunk
                if len(body) > self._max_bytes:
                    raise TargetRefused("the answer is too large")
                # The moment at which the mean rate would be below the slowest.
                due.reschedule(started + _GRACE_S + len(body) / slowest)
        if not body:
            raise TargetRefused("the answer is empty")
        return bytes(body)


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to the address that was checked, whatever name is asked for."""

    def __init__(self, target: WebTarget, address: str) -> None:
        self._target, self._address = target, address
        self._real = httpcore.AnyIOBackend()
        self._streams: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if (host, port) != (self._target.host, self._target.port):
            raise TargetRefused("another host was asked for than was checked")
        stream = await self._real.connect_tcp(
            self._address, port, timeout, local_address, socket_options
        )
        self._streams.append(stream)
        return stream

    async def close(self) -> None:
        """Close whatever is still open."""
        for stream in self._streams:
            await stream.aclose()

    async def sleep(self, seconds: float) -> None:
        await self._real.sleep(seconds)


def _url(target: WebTarget) -> httpcore.URL:
    """Put together from its parts: nothing reads the uri a second time."""
    return httpcore.URL(
        scheme=target.scheme.encode(),
        host=target.host.encode(),
        port=target.port,
        target=target.path.encode(),
    )


def _headers(target: WebTarget) -> list[tuple[bytes, bytes]]:
    return [
        (b"Host", target.authority.encode()),
        (b"User-Agent", _AGENT),
        (b"Accept", b"video/*, image/*, application/octet-stream"),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]
