"""Webhooks: a result posted to where the client asked, signed, and to nowhere else.

Off unless hosts are allowed. The host is resolved once, by whoever is injected, and the connection
goes to that address: what was checked is what is reached. Redirects are not followed, proxies not
asked, and of the answer its status alone is read.

Signed as https://www.standardwebhooks.com says: HMAC-SHA256 over `id.timestamp.body`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
import ssl
from collections.abc import Awaitable, Callable
from urllib.parse import SplitResult, urlsplit

import httpx

from deployments.jobs.errors import WebhookRefused
from deployments.security.address import is_public

__all__ = ["Resolve", "WebhookUndelivered", "Webhooks", "resolve", "signed"]

Resolve = Callable[[str], Awaitable[str]]
"""A url to the one address, IPv4 or IPv6, that a connection to it goes to."""

_PORTS = {"http": 80, "https": 443}
_MAX_URL = 2048


class WebhookUndelivered(Exception):
    """The receiver did not take it; another attempt may succeed."""


def signed(secret: str, message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a signed post.

    Args:
        secret: `whsec_` and a key in base64.
        message: The message's name; the same in each attempt.
        timestamp: Unix time of the attempt, seconds.
        body: What is posted.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{message}.{timestamp}.".encode() + body
    mark = base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{mark}",
    }


async def resolve(url: str) -> str:
    """The first address of a url's host, where all of them are public.

    Raises:
        WebhookRefused: One is not.
        OSError: The host is not known.
    """
    parts = urlsplit(url)
    found = await asyncio.get_running_loop().getaddrinfo(
        parts.hostname, None, type=socket.SOCK_STREAM
    )
    addresses = [str(entry[4][0]) for entry in found]
    if not all(map(is_public, addresses)):
        raise WebhookRefused("the webhook's host cannot be reached from here")
    return addresses[0]


class Webhooks:
    """Posts results.

    Args:
        hosts: Where to, as `name` or `name:port`.
        secret: Signs them; None only where `hosts` is empty.
        resolve: Gives the address; refused where it is not public.
        permitted: Which addresses may be reached.
        timeout_s: Seconds for one post.
    """

    def __init__(
        self,
        hosts: tuple[str, ...],
        secret: str | None,
        *,
        resolve: Resolve = resolve,
        permitted: Callable[[str], bool] = is_public,
        timeout_s: float = 15.0,
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._secret, self._resolve, self._permitted = secret, resolve, permitted
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if hosts else None

    def check(self, url: str) -> str:
        """The url, if results may be posted to it.

        Raises:
            WebhookRefused: They may not.
        """
        self._parts(url)
        return url

    async def post(self, url: str, message: str, timestamp: int, body: bytes) -> None:
        """Post a body once.

        Args:
            url: Where to.
            message: The message's name.
            timestamp: Unix time, seconds.
            body: JSON.

        Raises:
            WebhookUndelivered: It was not taken.
            WebhookRefused: It may not be posted there.
        """
        parts = self._parts(url)
        assert self._secret is not None  # The settings demand it of whoever allows hosts.
        try:
            async with asyncio.timeout(self._timeout_s):
                address = await self._resolve(url)
                if not self._permitted(address):
                    raise WebhookRefused("the webhook's host cannot be reached from here")
                headers = signed(self._secret, message, timestamp, body)
                status = await self._send(parts, address, headers, body)
        except (OSError, UnicodeError, httpx.HTTPError, httpx.InvalidURL) as error:
            raise WebhookUndelivered(type(error).__name__) from error
        if not 200 <= status < 300:
            raise WebhookUndelivered(f"status {status}")

    async def _send(
        self, parts: SplitResult, address: str, headers: dict[str, str], body: bytes
    ) -> int:
        host = f"[{address}]" if ":" in address else address
        port = parts.port or _PORTS[parts.scheme]
        pinned = parts._replace(netloc=f"{host}:{port}").geturl()
        assert self._tls is not None
        async with (
            httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=self._timeout_s) as client,
            client.stream(
                "POST",
                pinned,
                content=body,
                headers={
                    **headers,
                    "host": parts.netloc,
                    "content-type": "application/json",
                    "accept-encoding": "identity",
                },
                # The certificate is the host's, not the address's.
                extensions={"sni_hostname": parts.hostname},
            ) as answer,
        ):
            return answer.status_code

    def _parts(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise WebhookRefused("the webhook is no url") from None
        name = (parts.hostname or "").lower()
        plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
        if not plain or len(url) > _MAX_URL or parts.scheme not in _PORTS or "@" in parts.netloc:
            raise WebhookRefused("a webhook is an http or https url without user or password")
        allowed = f"{name}:{port}" in self._hosts or (
            name in self._hosts and port in (None, *_PORTS.values())
        )
        if not name or not allowed:
            raise WebhookRefused(f"webhooks do not go to {parts.netloc[:256]!r}")
        return parts
