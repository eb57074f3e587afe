"""A door in this process whose engine the test holds, and pictures to send through it."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from fastapi import FastAPI
from PIL import Image

from deployments.api import Wire, make_api
from deployments.assembly import Assembly
from deployments.engine_door import HostDoor
from deployments.meters import Meters, gather_own
from deployments.security.web_fetch import WebFetch
from reelsight.engine import EngineHost, EngineRecipe
from reelsight.engine.fake import FakeEngine
from reelsight.errors import EngineInputError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings


class HeldEngine(FakeEngine):
    """A device that stops while it is held, and does not take a white frame."""

    def __init__(self, spec: EngineSpec, seconds_per_batch: float = 0.0) -> None:
        super().__init__(spec, seconds_per_batch=seconds_per_batch)
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Event()
        self.batches: list[int] = []

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.batches.append(len(pixels))
        self.began.set()
        assert self.go.wait(60)
        if (pixels.reshape(len(pixels), -1).min(axis=1) > 250).any():
            raise EngineInputError("a white frame")
        return super().run(pixels)


@dataclass
class Door:
    """An open door.

    Attributes:
        client: Asks it.
        api: The application.
        engine: Behind it.
        host: The engine's.
    """

    client: httpx.AsyncClient
    api: FastAPI
    engine: HeldEngine
    host: EngineHost


OpenDoor = Callable[..., AbstractAsyncContextManager[Door]]


@pytest.fixture
def opened(fake_recipe: EngineRecipe, fake_plan: TaggingPlan) -> Iterator[OpenDoor]:
    engines: list[HeldEngine] = []

    @asynccontextmanager
    async def run(
        flags: dict[str, Any] | None = None,
        *,
        seconds_per_batch: float = 0.0,
        client: str = "127.0.0.1",
        web: WebFetch | None = None,
    ) -> AsyncIterator[Door]:
        settings = Settings.load(
            None, {"engine.backend": "fake", "serve.decoders": 2} | (flags or {})
        )
        engine = HeldEngine(fake_recipe.spec, seconds_per_batch)
        engines.append(engine)
        meters = Meters()
        host = EngineHost(
            engine, max_queued_frames=settings.engine.max_queued_frames, observer=meters
        )
        inner = HostDoor(host)
        assembly = Assembly(fake_plan, settings, inner, fake_recipe.open_text, meters)
        banks = assembly.banks(fake_recipe)
        wire = Wire(assembly.embedding, meters, gather_own(meters))

        @asynccontextmanager
        async def running(_: FastAPI) -> AsyncIterator[None]:
            await banks.start()
            yield
            await banks.stop()

        api = make_api(assembly.service, inner, banks, settings, wire, running, web=web)
        transport = httpx.ASGITransport(api, client=(client, 1))
        try:
            async with (
                api.router.lifespan_context(api),
                httpx.AsyncClient(
                    transport=transport, base_url="http://door", timeout=60
                ) as asking,
            ):
                yield Door(asking, api, engine, host)
        finally:
            engine.go.set()
            assembly.close()
            host.close()

    yield run
    for engine in engines:
        engine.go.set()


def picture(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (shade, shade, shade)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def grey() -> bytes:
    return picture(90)


@pytest.fixture(scope="session")
def white() -> bytes:
    return picture(255)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number
