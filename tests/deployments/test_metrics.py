"""/metrics and the log: what went through the door is what they tell."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.app import single_api
from deployments.exchange import Observed
from deployments.logs import JsonLine, log_as_json
from deployments.meters import Meters, Numbers, exposition
from deployments.request_id import RequestId
from reelsight.engine import EngineRecipe
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from tests.deployments.doors import Asked, asking

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def values(text: str) -> Samples:
    """Samples by name and labels, without origin and buckets."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            kept = {k: v for k, v in sample.labels.items() if k not in ("deployment", "replica")}
            found[sample.name, frozenset(kept.items())] = sample.value
    return found


def at(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, object]]]]:
    """What was logged, as the formatter writes it."""
    kept: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(self.format(record))

    handler = Kept()
    handler.setFormatter(JsonLine())
    logger = logging.getLogger("reelsight.request")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in kept]
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_what_went_through_is_counted(
    asked: Asked, samples: list[SampleClip], fake_plan: TaggingPlan
) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        frames = 0
        for sample in samples[:3]:
            answer = await client.post("/v1/tags", files={"file": sample.path.read_bytes()})
            frames += len(answer.json()["frames"])
        await client.post("/v1/tags", files={"file": b"nothing"})
        await client.post("/v1/embeddings", json={"model": "fake", "input": ["a", "b"]})
        await client.get("/v1/models/other/../../x")
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        found = values(answer.text)
        name = "reelsight_request_seconds_count"
        tags = {"route": "/v1/tags", "method": "POST"}
        assert at(found, name, **tags, status="200") == 3
        assert at(found, name, **tags, status="422") == 1
        assert at(found, name, route="unmatched", method="GET", status="404") == 1
        assert 0 < at(found, "reelsight_request_seconds_sum", **tags, status="200") < 60
        assert at(found, "reelsight_rejects_total", code="media.unrecognised_container") == 1
        assert at(found, "reelsight_rejects_total", code="request.no_route") == 1
        assert at(found, "reelsight_requests_in_flight") == 1  # This one.
        assert at(found, "reelsight_frames_total") == frames
        assert at(found, "reelsight_decode_seconds_count") == 4
        assert at(found, "reelsight_aggregate_seconds_count") == 4
        assert at(found, "reelsight_text_seconds_count") == 1
        assert at(found, "reelsight_queue_wait_seconds_count", queue="decode") == 4
        assert at(found, "reelsight_queue_wait_seconds_count", queue="engine") == 3
        assert at(found, "reelsight_queue_wait_seconds_count", queue="text") == 1
        assert at(found, "reelsight_embed_seconds_count") == 3
        batches = at(found, "reelsight_engine_seconds_count")
        assert at(found, "reelsight_batch_fill_ratio_count") == batches >= 3
        padded = at(found, "reelsight_padding_frames_total")
        assert 0 < at(found, "reelsight_batch_fill_ratio_sum") <= batches
        assert (frames + padded) % 4 == 0
        assert at(found, "reelsight_waiting_clips") == at(found, "reelsight_waiting_frames") == 0
        made = fake_plan.provenance
        info = {"model": "fake", "engine": made.engine, "precision": "fp32"}
        assert at(found, "reelsight_engine_info", **info, engine_hash=made.engine_hash) == 1
        assert at(found, "reelsight_bank_info", bank="fake", bank_hash=made.bank_hash) == 1

    asked(ask)


def test_clips_that_wait_are_told(
    fake_recipe: EngineRecipe, fake_plan: TaggingPlan, samples: list[SampleClip]
) -> None:
    settings = Settings.load(None, {"engine.backend": "fake", "serve.decoders": 1})
    clip = samples[0].path.read_bytes()

    async def whole() -> None:
        async with asking(single_api(fake_recipe, fake_plan, settings)) as client:
            posts = [
                asyncio.ensure_future(client.post("/v1/tags", files={"file": clip}))
                for _ in range(4)
            ]
            most = 0.0
            while not all(post.done() for post in posts):
                found = values((await client.get("/metrics")).text)
                most = max(most, at(found, "reelsight_waiting_clips"))
            assert 1 <= most <= 3
            assert {(await post).status_code for post in posts} == {200}

    asyncio.run(whole())


def test_replicas_are_told_apart_and_the_unheard_named() -> None:
    one, two = Meters("engine", "a"), Meters("engine", "b")
    one.ran(3, 4, 0.01)
    two.ran(8, 8, 0.02)
    two.answered('odd"\\\nroute', "GET", 200, 0.1)
    text = exposition(
        [one.written(), two.written(), Numbers("ingress", "c", {}, unheard=("media",))]
    )
    found = {
        (sample.name, sample.labels.get("deployment"), sample.labels.get("replica")): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["reelsight_frames_total", "engine", "a"].value == 3
    assert found["reelsight_frames_total", "engine", "b"].value == 8
    assert found["reelsight_padding_frames_total", "engine", "a"].value == 1
    assert found["reelsight_unheard_deployments", "media", None].value == 1
    odd = found["reelsight_request_seconds_count", "engine", "b"]
    assert odd.labels["route"] == 'odd"\\\nroute'
    assert text.count("# TYPE reelsight_frames_total counter") == 1
    assert "_created" not in text


def test_parts_of_one_replica_are_told_together_and_apart() -> None:
    meters = Meters("ingress", "a")
    second = meters.beside("critical-engine")
    meters.ran(3, 4, 0.01)
    second.ran(1, 1, 0.01)
    second.watch("reelsight_waiting_frames", "Frames that wait.", lambda: 5)
    written = meters.written()
    assert (written.deployment, written.replica) == ("ingress", "a")
    text = exposition([written])
    found = {
        (sample.name, sample.labels["deployment"], sample.labels["replica"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["reelsight_frames_total", "ingress", "a"] == 3
    assert found["reelsight_frames_total", "critical-engine", "a"] == 1
    assert found["reelsight_waiting_frames", "critical-engine", "a"] == 5
    assert text.count("# TYPE reelsight_frames_total counter") == 1


def test_a_request_is_one_line_with_its_name(
    asked: Asked,
    lines: Callable[[], list[dict[str, object]]],
    samples: list[SampleClip],
    fake_plan: TaggingPlan,
) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        clip = samples[0].path.read_bytes()
        await client.post(
            "/v1/tags?clip_id=secret-clip", files={"file": clip}, headers={"x-request-id": "r1"}
        )
        await client.post(
            "/v1/tags",
            json={"uri": "https://user:secret@example.com/a.mp4?token=secret"},
            headers={"x-request-id": "r2", "authorization": "Bearer secret"},
        )
        await client.get("/healthz", headers={"x-request-id": "r3"})
        await client.request("BREW", "/secret", headers={"x-request-id": "r4"})

    asked(ask)
    told = lines()
    assert [line["request_id"] for line in told] == ["r1", "r2", "r3", "r4"]
    tagged, refused, healthy, odd = told
    made = fake_plan.provenance
    assert {k: tagged[k] for k in ("event", "level", "method", "route", "status", "code")} == {
        "event": "request",
        "level": "info",
        "method": "POST",
        "route": "/v1/tags",
        "status": 200,
        "code": None,
    }
    assert tagged["bank"] == f"fake-{made.bank_hash[:12]}"
    assert isinstance(tagged["frames"], int)
    assert isinstance(tagged["seconds"], float)
    assert tagged["frames"] >= 1
    assert 0 < tagged["seconds"] < 60
    assert (refused["status"], refused["code"]) == (422, "fetch.scheme_refused")
    assert healthy["level"] == "debug"
    assert (odd["method"], odd["route"], odd["status"]) == ("other", "unmatched", 404)
    assert "secret" not in json.dumps(told)


def test_a_bug_is_logged_with_its_request_and_answered(
    lines: Callable[[], list[dict[str, object]]],
) -> None:
    async def broken(scope: object, receive: object, send: object) -> None:
        raise RuntimeError("lost s3://key:hidden@store/a.mp4?sig=hidden")

    meters = Meters()
    app = RequestId(Observed(broken, meters))

    async def whole() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
            answer = await client.get("/x", headers={"x-request-id": "r9"})
            assert (answer.status_code, answer.json()["code"]) == (500, "internal.unexpected")
            assert answer.json()["request_id"] == answer.headers["x-request-id"] == "r9"
            assert "lost" not in answer.text

    asyncio.run(whole())
    bug, line = lines()
    assert (bug["level"], bug["request_id"], line["code"]) == ("error", "r9", "internal.unexpected")
    assert "RuntimeError: lost s3://store/a.mp4" in str(bug["exception"])
    assert "hidden" not in json.dumps([bug, line])
    found = values(exposition([meters.written()]))
    assert at(found, "reelsight_rejects_total", code="internal.unexpected") == 1
    assert at(found, "reelsight_requests_in_flight") == 0


def test_lines_go_to_stderr_by_level(capsys: pytest.CaptureFixture[str]) -> None:
    roots = [logging.getLogger(name) for name in ("reelsight", "deployments", "engines")]
    before = [(r.level, r.propagate, list(r.handlers)) for r in roots]
    try:
        log_as_json("info")
        log_as_json("warning")  # Sets the level, adds no second handler.
        logging.getLogger("reelsight.request").info("quiet")
        logging.getLogger("engines.catalog").warning("a\nb %s", "ü")
        (line,) = capsys.readouterr().err.splitlines()
        told = json.loads(line)
        assert (told["event"], told["logger"], told["level"]) == (
            "a\nb ü",
            "engines.catalog",
            "warning",
        )
        assert told["time"].endswith("+00:00")
    finally:
        for root, (level, propagate, handlers) in zip(roots, before, strict=True):
            root.setLevel(level)
            root.propagate, root.handlers[:] = propagate, handlers


def test_meters_are_right_from_many_threads() -> None:
    meters = Meters()

    def count() -> None:
        for _ in range(500):
            meters.ran(3, 4, 0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = values(exposition([meters.written()]))
    assert at(found, "reelsight_frames_total") == 6000
    assert at(found, "reelsight_engine_seconds_count") == 2000
