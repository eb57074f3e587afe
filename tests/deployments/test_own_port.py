"""A replica that has the port itself: who waits for it, who is told, and who takes it over."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI
from ray.serve.context import _get_global_client

from deployments import own_port
from deployments.own_port import bound, listening
from deployments.run import serving
from reelsight.errors import ConfigError
from reelsight.settings import Settings
from tests.deployments.doors import free_port
from tests.reelsight.media.process_tree import wait_gone


@pytest.fixture
def place() -> tuple[str, int]:
    return "127.0.0.1", free_port()


def told_of(happened: list[str]) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        happened.append("started")
        try:
            yield
        finally:
            happened.append("ended")

    api = FastAPI(lifespan=lifespan)

    @api.get("/")
    def answer() -> str:
        happened.append("answered")
        return "here"

    return api


async def get(host: str, port: int) -> str:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://{host}:{port}/")
        assert "server" not in answer.headers
        told: str = answer.json()
        return told


def test_it_listens_between_its_start_and_its_end(place: tuple[str, int]) -> None:
    happened: list[str] = []
    api = listening(told_of(happened), *place)

    async def run() -> None:
        with pytest.raises(httpx.ConnectError):
            await get(*place)
        async with api.router.lifespan_context(api):
            assert await get(*place) == "here"
        with pytest.raises(httpx.ConnectError):
            await get(*place)

    asyncio.run(run())
    assert happened == ["started", "answered", "ended"]


def test_a_port_that_a_predecessor_has_is_waited_for(
    place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    predecessor = socket.create_server(place)
    api = listening(told_of([]), *place)
    refused: list[str] = []

    def once(host: str, port: int) -> socket.socket:
        try:
            return bound(host, port)
        except ConfigError as error:
            refused.append(error.code)
            predecessor.close()
            raise

    async def run() -> None:
        async with api.router.lifespan_context(api):
            assert await get(*place) == "here"

    monkeypatch.setattr(own_port, "bound", once)
    asyncio.run(run())
    assert refused == ["config.port_taken"]


def test_one_that_nobody_gives_up_is_an_error(
    place: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    api = listening(told_of(happened), *place)

    async def run() -> None:
        async with api.router.lifespan_context(api):
            pytest.fail("two listen")

    monkeypatch.setattr(own_port, "_PATIENCE_S", 0.0)
    with socket.create_server(place), pytest.raises(ConfigError, match="somebody else listens"):
        asyncio.run(run())
    assert happened == ["started", "ended"]


@pytest.mark.parametrize("taken", [True, False])
def test_what_cannot_be_listened_on_is_said_before_anything_starts(
    place: tuple[str, int], taken: bool
) -> None:
    # 203.0.113.1 is for documents: no machine has it.
    host = place[0] if taken else "203.0.113.1"
    flags = {"engine.backend": "fake", "serve.host": host, "serve.port": place[1]}
    with socket.create_server(place), pytest.raises(ConfigError) as caught:
        bound(host, place[1])
    assert caught.value.code == ("config.port_taken" if taken else "config.no_address")
    if taken:
        settings = Settings.load(None, flags)
        with (
            socket.create_server(place),
            pytest.raises(ConfigError, match="somebody else"),
            serving(settings),
        ):
            pytest.fail("two listen")


@pytest.mark.usefixtures("ray_cluster")
def test_the_successor_of_a_killed_replica_has_its_port(place: tuple[str, int]) -> None:
    flags = {"engine.backend": "fake", "serve.port": place[1], "serve.decoders": 1}

    def ingress() -> int:
        applications = _get_global_client().get_serve_details()["applications"]
        (replica,) = applications["reelsight"]["deployments"]["ingress"]["replicas"]
        pid: int = replica["pid"]
        return pid

    async def answered(url: str) -> None:
        async with httpx.AsyncClient(base_url=url) as client, asyncio.timeout(60):
            while True:
                try:
                    if (await client.get("/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)  # It says nothing when it is there: one asks.

    with serving(Settings.load(None, flags)) as url:
        asyncio.run(answered(url))
        first = ingress()
        os.kill(first, signal.SIGKILL)
        assert not wait_gone([first])
        asyncio.run(answered(url))
        assert ingress() != first
