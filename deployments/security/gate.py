"""The gate: a request is known, may do what it asks, and has frames left, before its body is read.

States of a request: public -> through; unknown -> 401; known, without the scope -> 403; known,
with no frames left -> 429; else through, with its Caller in the ASGI scope. Without a keys file
only loopback is let in, and everything is open to it but to pages of other hosts.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.problems import problem
from deployments.security.quota import CALLER, Caller, TokenBucket
from deployments.security.scopes import ANY_KEY, PUBLIC, needed_scope
from reelsight.errors import ConfigError, RequestError
from reelsight.keyring import ApiKey, Keyring, load_keyring

__all__ = ["KeyFile", "KeyGate"]

_log = logging.getLogger(__name__)
_POLL_S = 1.0
_OWN_PAGE = re.compile(r"https?://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]{1,5})?", re.ASCII)
_COUNTED = ("tags", "marks", "embeddings", "jobs")


class KeyFile:
    """The keys as the file says now. It is looked at once a second at most.

    A file that cannot be read leaves the keys as they were; a file that is gone leaves none.

    Args:
        path: The file.
        poll_s: Seconds between looks.

    Raises:
        ConfigError: It cannot be read at the start.
    """

    def __init__(self, path: Path, poll_s: float = _POLL_S) -> None:
        self._path, self._poll_s = path, poll_s
        self._seen = self._version()
        self._ring = load_keyring(path)
        self._looked = time.monotonic()

    @property
    def ring(self) -> Keyring:
        """The keys."""
        if time.monotonic() - self._looked >= self._poll_s:
            self._looked = time.monotonic()
            version = self._version()
            if version != self._seen:
                self._seen = version
                self._reload()
        return self._ring

    def _reload(self) -> None:
        try:
            self._ring = load_keyring(self._path)
        except ConfigError as error:
            if error.code == "keys.missing":
                self._ring = Keyring()
            _log.error("the keys file has changed and is not usable: %s", error)

    def _version(self) -> tuple[int, int, int] | None:
        try:
            facts = self._path.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size, facts.st_ino


class KeyGate:
    """ASGI middleware.

    Args:
        app: What answers.
        keys: None where no keys are asked for.
        frames_per_minute: Of all callers together; None for no bound.
    """

    def __init__(self, app: ASGIApp, keys: KeyFile | None, frames_per_minute: int | None) -> None:
        self._app, self._keys = app, keys
        self._everyone = () if frames_per_minute is None else (TokenBucket(frames_per_minute),)
        self._buckets: dict[str, TokenBucket] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
        needed = needed_scope(method, path)
        if needed != PUBLIC:
            try:
                caller = self._caller(scope, needed)
                if method == "POST" and needed in _COUNTED:
                    # Not the whole of it is known yet, but that there is nothing is.
                    caller.require(1)
            except RequestError as error:
                await problem(error)(scope, receive, send)
                return
            # Not in a copy: what the router finds is read from the scope outside of this.
            scope[CALLER] = caller
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope, needed: str) -> Caller:
        if self._keys is None:
            _require_loopback(scope)
            _require_own_pages(scope)
            return Caller(None, self._everyone)
        ring = self._keys.ring
        key = ring.match(_presented(scope))
        if key is None:
            raise _unknown("the key is not known")
        if needed != ANY_KEY and not key.may(needed):
            raise RequestError(
                f"the key {key.id} has not the scope {needed!r}",
                status=403,
                code="auth.scope",
                hint="Ask whoever runs this service for a key with that scope.",
            )
        return Caller(key, (*self._bucket_of(key, ring), *self._everyone))

    def _bucket_of(self, key: ApiKey, ring: Keyring) -> tuple[TokenBucket, ...]:
        if key.frames_per_minute is None:
            return ()
        bucket = self._buckets.get(key.id)
        if bucket is None or bucket.per_minute != key.frames_per_minute:
            listed = {other.id for other in ring.keys}
            self._buckets = {k: b for k, b in self._buckets.items() if k in listed}
            bucket = self._buckets[key.id] = TokenBucket(key.frames_per_minute)
        return (bucket,)


def _presented(scope: Scope) -> str:
    """The one key that a request shows, in either header."""
    shown: set[str] = set()
    for name, value in scope["headers"]:
        text = value.decode("latin-1").strip()
        if name.lower() == b"x-api-key":
            shown.add(text)
        elif name.lower() == b"authorization":
            kind, _, rest = text.partition(" ")
            if kind.lower() != "bearer":
                raise _unknown("Authorization is not of the kind Bearer")
            shown.add(rest.strip())
    if not shown:
        raise _unknown("no key was shown", code="auth.missing")
    if len(shown) > 1:
        raise _unknown("different keys were shown")
    return shown.pop()


def _require_loopback(scope: Scope) -> None:
    """A second lock: the first is that nothing else is listened on."""
    try:
        known = ipaddress.ip_address((scope.get("client") or ("",))[0])
    except ValueError:  # A transport without addresses.
        return
    if not known.is_loopback:
        raise RequestError(
            "this service has no API keys and answers loopback alone",
            status=403,
            code="auth.loopback_only",
            hint="Make a key with `reelsight keys add` where it runs.",
        )


def _require_own_pages(scope: Scope) -> None:
    """Refuse what a page of elsewhere lets a browser on this machine send: it needs no key here.

    Browsers say from where a page is with everything that changes something; other clients do not.
    """
    for name, value in scope["headers"]:
        if name.lower() == b"origin" and not _OWN_PAGE.fullmatch(value.decode("latin-1").lower()):
            raise RequestError(
                "this service has no API keys and answers no pages of other hosts",
                status=403,
                code="auth.origin",
                hint="Make a key with `reelsight keys add` where it runs, and send it.",
            )


def _unknown(why: str, code: str = "auth.unknown") -> RequestError:
    return RequestError(
        why,
        status=401,
        code=code,
        hint="Send `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
    )
