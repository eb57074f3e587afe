"""A door with jobs, in this process: real clips, real decoding, the fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.api import Wire, make_api
from deployments.assembly import Assembly, OwnEngine
from deployments.jobs.webhook import Webhooks
from deployments.meters import Meters, gather_own
from deployments.service import Tagger, TagJob
from reelsight.engine import EngineRecipe
from reelsight.nouns.report import Report
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings


class Gate:
    """Tags as the real tagger does, once it is open; jobs alone have to wait for it."""

    def __init__(self, tagger: Tagger) -> None:
        self._tagger = tagger
        self.opened = asyncio.Event()
        self.entered = asyncio.Event()
        self.left = asyncio.Event()
        self.seen: list[TagJob] = []

    @property
    def plan(self) -> TaggingPlan:
        return self._tagger.plan

    @property
    def full(self) -> bool:
        return self._tagger.full

    async def tag(self, job: TagJob) -> Report:
        if job.background:
            self.seen.append(job)
            self.entered.set()
            try:
                await self.opened.wait()
            finally:
                self.left.set()
        return await self._tagger.tag(job)


class Door:
    """A client, the gate before the jobs, and the application behind both."""

    def __init__(self, client: httpx.AsyncClient, gate: Gate, api: Any) -> None:
        self.client, self.gate, self.api = client, gate, api

    async def ended(self, where: str) -> dict[str, Any]:
        """The last event of a job's stream."""
        answer = await self.client.get(f"{where}/events")
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = events_of(answer.text)[-1][2]
        return told


def events_of(text: str) -> list[tuple[int | None, str, dict[str, Any]]]:
    """(id, name, data) of a stream, with an ordinary reading of its format."""
    import json

    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and line[0] != ":")
        if "event" in fields:
            number = int(fields["id"]) if "id" in fields else None
            events.append((number, fields["event"], json.loads(fields["data"])))
    return events


Opened = Callable[..., Any]


@pytest.fixture
def opened(
    fake_recipe: EngineRecipe, fake_plan: TaggingPlan, tmp_path: Path
) -> Callable[..., None]:
    """Runs a test against a door: `opened(test, jobs_open, webhooks, **settings of serve)`."""

    @asynccontextmanager
    async def door(
        settings: Settings, jobs_open: bool, webhooks: Webhooks | None
    ) -> AsyncIterator[Door]:
        meters = Meters()
        engine = OwnEngine(fake_recipe, settings, meters)
        assembly = Assembly(fake_plan, settings, engine, fake_recipe.open_text, meters)
        gate = Gate(assembly.service)
        if jobs_open:
            gate.opened.set()
        banks = assembly.banks(fake_recipe)
        wire = Wire(assembly.embedding, meters, gather_own(meters))
        api = make_api(gate, engine, banks, settings, wire, webhooks=webhooks)
        try:
            async with (
                api.router.lifespan_context(api),
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(api), base_url="http://door", timeout=60
                ) as client,
            ):
                yield Door(client, gate, api)
        finally:
            assembly.close()
            engine.close()

    def run(
        test: Callable[[Door], Awaitable[None]],
        jobs_open: bool = True,
        webhooks: Webhooks | None = None,
        **serve: Any,
    ) -> None:
        flags = {f"serve.{name}": value for name, value in serve.items()}
        settings = Settings.load(
            None,
            {"engine.backend": "fake", "serve.jobs_dir": tmp_path / "jobs", **flags},
        )

        async def whole() -> None:
            async with door(settings, jobs_open, webhooks) as found:
                await test(found)

        asyncio.run(whole())

    return run
