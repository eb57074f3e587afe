"""Spans, where an operator has set up OpenTelemetry; and none where nobody has."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from deployments import spans
from deployments.app import single_api
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from tests.deployments.doors import asking


def test_a_request_is_a_span_below_its_callers(
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
            monkeypatch.setattr(spans.trace, "get_tracer_provider", lambda: provider)
            monkeypatch.setattr(spans.trace, "get_tracer", provider.get_tracer)
            await ask(client)

    asyncio.run(whole())
    found = {span.name: span for span in kept.get_finished_spans()}
    assert set(found) == {"POST", "decode", "embed", "aggregate"}
    request = found.pop("POST")
    assert request.attributes["http.route"] == "/v1/tags"
    assert request.attributes["http.response.status_code"] == 200
    assert f"{request.parent.span_id:016x}" == "cd" * 8
    assert {span.context.trace_id for span in found.values()} == {int("ab" * 16, 16)}
    assert {span.parent.span_id for span in found.values()} == {request.context.span_id}
