"""What a door in one process holds once, and what it keeps off its event loop."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.app import single_api
from reelsight import steps
from reelsight.engine import EngineRecipe, FakeTextTower
from reelsight.nouns.report import Report
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip
from tests.deployments.doors import asking
from tests.deployments.test_live_banks import label, live_settings


def test_one_text_tower_embeds_requests_and_drafts(
    tmp_path: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan
) -> None:
    opened: list[FakeTextTower] = []

    def open_text() -> FakeTextTower:
        opened.append(FakeTextTower())
        return opened[-1]

    async def run() -> None:
        recipe = replace(fake_recipe, open_text=open_text)
        async with asking(single_api(recipe, fake_plan, live_settings(tmp_path))) as client:
            asked = {"model": "fake", "input": "a cat"}
            assert (await client.post("/v1/embeddings", json=asked)).status_code == 200
            put = await client.put("/v1/labels/animals", json={"labels": [label("cat")]})
            assert put.status_code == 200, put.text

    asyncio.run(run())
    assert len(opened) == 1


@pytest.mark.parametrize("long", [True, False])
def test_long_scoring_is_no_work_of_the_event_loop(
    tmp_path: Path,
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
    samples: list[SampleClip],
    monkeypatch: pytest.MonkeyPatch,
    long: bool,
) -> None:
    threads: list[threading.Thread] = []

    def counted(*arguments: Any, **named: Any) -> Report:
        threads.append(threading.current_thread())
        return steps.report_clip(*arguments, **named)

    monkeypatch.setattr("deployments.service.report_clip", counted)
    monkeypatch.setattr("deployments.service._SCORES", 1 if long else 10**9)

    async def run() -> None:
        settings = live_settings(tmp_path)
        async with asking(single_api(fake_recipe, fake_plan, settings)) as client:
            clip = {"file": samples[0].path.read_bytes()}
            assert (await client.post("/v1/tags", files=clip)).status_code == 200

    asyncio.run(run())
    assert [thread is threading.main_thread() for thread in threads] == [not long]
