"""The HTTP door in this process: real clips, the fake engine, no Serve."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from deployments.app import single_api
from reelsight.engine import EngineHost, EngineRecipe
from reelsight.plan import TaggingPlan
from reelsight.runner import SequentialRunner
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from reelsight.steps import ClipRequest

Ask = Callable[[httpx.AsyncClient], Awaitable[None]]


@asynccontextmanager
async def door(
    recipe: EngineRecipe, plan: TaggingPlan, settings: Settings
) -> AsyncIterator[httpx.AsyncClient]:
    api = single_api(recipe, plan, settings)
    transport = httpx.ASGITransport(api)
    async with (
        api.router.lifespan_context(api),
        httpx.AsyncClient(transport=transport, base_url="http://door") as client,
    ):
        yield client


@pytest.fixture
def asked(
    fake_recipe: EngineRecipe, fake_plan: TaggingPlan, fake_settings: Settings
) -> Callable[[Ask], None]:
    """Runs questions to a door."""

    def run(ask: Ask) -> None:
        async def whole() -> None:
            async with door(fake_recipe, fake_plan, fake_settings) as client:
                await ask(client)

        asyncio.run(whole())

    return run


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["code"], body["status"]) == (code, status)
    assert body["type"] == f"urn:reelsight:{code}"
    assert body["hint"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


def test_three_bodies_and_the_runner_without_http_agree(
    asked: Callable[[Ask], None],
    samples: list[SampleClip],
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
) -> None:
    host = EngineHost(fake_recipe.open_engine())
    with SequentialRunner(fake_plan, host) as runner:
        expected = [runner.report(ClipRequest(s.clip_id, str(s.path))) for s in samples]
    host.close()

    async def ask(client: httpx.AsyncClient) -> None:
        for sample, report in zip(samples, expected, strict=True):
            data = sample.path.read_bytes()
            raw = {"content-type": "application/octet-stream"}
            answers = [
                await client.post(
                    "/v1/tags", files={"file": data}, data={"clip_id": sample.clip_id}
                ),
                await client.post(f"/v1/tags?clip_id={sample.clip_id}", content=data, headers=raw),
            ]
            told = report.to_dict()
            for answer in answers:
                assert answer.status_code == 200, answer.text
                body = answer.json()
                assert body["provenance"] == told["provenance"]
                assert body["frames"] == told["frames"]
                assert body["sampled"] == told["sampled"]
                assert body["clip"]["sha256"] == told["clip"]["sha256"]
                assert [
                    (lab["name"], lab["confidence"], lab["coverage"], lab["best_ms"])
                    for lab in body["labels"]
                ] == [(t["label"], t["score"], t["coverage"], t["best_ms"]) for t in told["tags"]]

    asked(ask)


def test_refusals_are_problems(asked: Callable[[Ask], None], samples: list[SampleClip]) -> None:
    clip = samples[0].path.read_bytes()
    raw = {"content-type": "video/mp4"}

    async def ask(client: httpx.AsyncClient) -> None:
        post = client.post
        problem_of(await post("/v1/tags", content=b"", headers=raw), 422, "request.empty")
        problem_of(
            await post("/v1/tags", content=b"#!/bin/sh", headers=raw),
            422,
            "media.unrecognised_container",
        )
        problem_of(await post("/v1/tags", content=b"a"), 415, "request.content_type")
        problem_of(await post("/v1/tags", files={"clip": clip}), 422, "request.no_file")
        problem_of(
            await post("/v1/tags", files={"file": clip}, data={"sampel": "x"}), 422, "request.form"
        )
        problem_of(
            await post("/v1/tags?sampling=often", content=clip, headers=raw), 400, "config.invalid"
        )
        problem_of(
            await post("/v1/tags?timeout_ms=0", content=clip, headers=raw), 422, "request.schema"
        )
        problem_of(
            await post("/v1/tags", json={"uri": "file:///etc/passwd"}), 422, "fetch.scheme_refused"
        )
        problem_of(await post("/v1/tags", json={"url": "x"}), 422, "request.schema")
        problem_of(
            await post("/v1/tags", content=clip, headers={**raw, "content-encoding": "gzip"}),
            415,
            "request.encoding",
        )
        problem_of(await client.get("/v1/tags"), 405, "request.method")
        problem_of(await client.get("/v2/nothing"), 404, "request.no_route")
        problem_of(await client.get("/v1/models/other"), 404, "request.no_model")
        late = await post("/v1/tags?timeout_ms=1", content=clip, headers=raw)
        assert late.json()["code"] in ("request.deadline", "decode.deadline", "engine.deadline")
        assert (late.status_code, late.headers["retry-after"]) == (503, "1")

    asked(ask)


def test_a_damaged_clip_is_refused_as_its_report_says(
    asked: Callable[[Ask], None], samples: list[SampleClip]
) -> None:
    data = bytearray(samples[0].path.read_bytes())
    data[:64] = bytes(64)

    async def ask(client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/tags", files={"file": bytes(data)})
        assert 400 <= answer.status_code < 500
        assert answer.json()["code"].startswith("media.")

    asked(ask)


def test_a_body_beyond_the_cap_is_refused_while_it_comes(
    fake_recipe: EngineRecipe, fake_plan: TaggingPlan
) -> None:
    settings = Settings.load(
        None, {"engine.backend": "fake", "media.limits": {"max_bytes": 1 << 16}}
    )
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1 << 24:
            sent += 1 << 14
            yield b"x" * (1 << 14)

    async def whole() -> None:
        async with door(fake_recipe, fake_plan, settings) as client:
            raw = {"content-type": "video/mp4"}
            told = await client.post("/v1/tags", content=b"x" * (1 << 18), headers=raw)
            problem_of(told, 413, "request.too_large")
            streamed = await client.post("/v1/tags", content=endless(), headers=raw)
            problem_of(streamed, 413, "request.too_large")

    asyncio.run(whole())
    assert sent <= 1 << 19


def test_health_models_and_names(asked: Callable[[Ask], None], fake_plan: TaggingPlan) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).json() == {"status": "ok"}
        (model,) = (await client.get("/v1/models")).json()["data"]
        assert model["engine_hash"] == fake_plan.spec.hash
        assert (await client.get(f"/v1/models/{model['id']}")).json() == model
        named = await client.get("/healthz", headers={"x-request-id": "mine-7"})
        assert named.headers["x-request-id"] == "mine-7"
        forged = await client.get("/healthz", headers={"x-request-id": "a b\tc"})
        assert forged.headers["x-request-id"] != "a b\tc"

    asked(ask)
