"""A replica that listens itself, without Serve's proxy between it and its clients.

On one machine there is one ingress replica, and it has the port: docs/decisions/0015. On a cluster
replicas come and go behind Serve's proxy, or HAProxy: see serve.yaml.

States: waiting for the port (a predecessor that was told to go may still have it) -> listening ->
closing (what is under way gets a moment; `deployments.drain` has waited for it before) -> closed. A
replica that is killed leaves the port at once, and its successor takes it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from reelsight.errors import ConfigError

__all__ = ["bound", "listening"]

_PATIENCE_S, _AGAIN_S = 30.0, 0.1
_KEEP_ALIVE_S, _CLOSING_S = 75, 2
_BACKLOG = 2048


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket at an address, not listening yet.

    Raises:
        ConfigError: `config.port_taken`, `config.no_address`.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind)
    except OSError as error:
        raise _no_address(host, error) from error
    try:
        # Connections of a predecessor may still be dying there.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        found.close()
        if error.errno != errno.EADDRINUSE:
            raise _no_address(f"{host}:{port}", error) from error
        raise ConfigError(
            f"somebody else listens on {host}:{port}",
            code="config.port_taken",
            hint="Give another --port, or end who has this one.",
        ) from error
    return found


def listening(api: FastAPI, host: str, port: int) -> FastAPI:
    """The application, which listens for as long as it runs: after its own start, until its end.

    Args:
        api: Its lifespan is run by whoever holds it.
        host: Address or name.
        port: TCP port.
    """
    inner = api.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with inner(app), _listener(app, host, port):
            yield

    api.router.lifespan_context = lifespan
    return api


@asynccontextmanager
async def _listener(api: FastAPI, host: str, port: int) -> AsyncIterator[None]:
    place = await _bound_in_time(host, port)
    # Lifespan and log are the replica's.
    config = uvicorn.Config(
        api,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        ws="none",
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_CLOSING_S,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[place]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        place.close()


class _Server(uvicorn.Server):
    """Leaves signals to the replica's process."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def _bound_in_time(host: str, port: int) -> socket.socket:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return bound(host, port)
        except ConfigError as error:
            if error.code != "config.port_taken" or time.monotonic() > until:
                raise
        await asyncio.sleep(_AGAIN_S)


def _no_address(where: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot listen on {where}: {error.strerror or error}",
        code="config.no_address",
        hint="Give an address of this machine to --host, and a --port that this user may have.",
    )
