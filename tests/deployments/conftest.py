"""Questions to a door in this process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deployments.app import single_api
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings
from tests.deployments.doors import Ask, Asked, asking


@pytest.fixture
def asked(fake_recipe: EngineRecipe, fake_plan: TaggingPlan) -> Asked:
    """Runs questions to a door with the fake engine, and with settings by their dotted names."""

    def run(ask: Ask, flags: dict[str, Any] | None = None) -> None:
        settings = Settings.load(None, {"engine.backend": "fake"} | (flags or {}))

        async def whole() -> None:
            async with asking(single_api(fake_recipe, fake_plan, settings)) as client:
                await ask(client)

        asyncio.run(whole())

    return run
