"""Spans, where an operator has set up OpenTelemetry; and none where nobody has."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import httpx
import pytest

from deployments.app import single_api
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from tests.deployments.doors import asking


def test_the_steps_of_a_request_are_spans_of_its_callers_trace(
    monkeypatch: pytest.MonkeyPatch,
    samples: list[SampleClip],
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
    fake_settings: Settings,
) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="no OpenTelemetry SDK here")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    kept = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))

    async def ask(client: httpx.AsyncClient) -> None:
        caller = {"traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
        clip = {"file": samples[0].path.read_bytes()}
        assert (await client.post("/v1/tags", files=clip, headers=caller)).status_code == 200

    async def whole() -> None:
        async with asking(single_api(fake_recipe, fake_plan, fake_settings)) as client:
            await ask(client)
            assert not kept.get_finished_spans()  # Nobody has set it up yet.
            monkeypatch.setattr("opentelemetry.trace.get_tracer_provider", lambda: provider)
            monkeypatch.setattr("opentelemetry.trace.get_tracer", provider.get_tracer)
            await ask(client)

    asyncio.run(whole())
    found = {span.name: span for span in kept.get_finished_spans()}
    steps: list[Any] = [found[name] for name in ("decode", "embed", "aggregate")]
    assert {f"{span.context.trace_id:032x}" for span in steps} == {"ab" * 16}
    assert all(a.end_time <= b.start_time for a, b in itertools.pairwise(steps))
