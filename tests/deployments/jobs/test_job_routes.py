"""Jobs over HTTP: taken, run, answered, cancelled, expired; and which clips become jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from reelsight.errors import Overloaded
from reelsight.nouns.report import Report
from reelsight.samples.clips import SampleClip
from tests.deployments.jobs.conftest import Door

Opened = Callable[..., None]
RAW = {"content-type": "video/mp4"}


def without_name(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "request_id"}


def test_a_job_gives_what_a_request_gives(opened: Opened, samples: list[SampleClip]) -> None:
    async def test(door: Door) -> None:
        for sample in samples:
            data = sample.path.read_bytes()
            form = {"clip_id": sample.clip_id, "sampling": "rate:3"}
            at_once = await door.client.post("/v1/tags", files={"file": data}, data=form)
            later = await door.client.post("/v1/jobs", files={"file": data}, data=form)
            assert later.status_code == 202, later.text
            assert later.json()["state"] in ("queued", "running")
            where = later.headers["location"]
            assert where == f"/v1/jobs/{later.json()['id']}"
            ended = await door.ended(where)
            assert ended["state"] == "done"
            assert without_name(ended["result"]) == without_name(at_once.json())
            assert ended["result"]["request_id"] == later.headers["x-request-id"]
            assert (
                ended["frames_decoded"]
                == ended["frames_embedded"]
                == len(ended["result"]["frames"])
            )
            assert (await door.client.get(where)).json() == ended

    opened(test)


def test_a_clip_that_cannot_be_tagged_is_a_problem_of_its_job(
    opened: Opened, samples: list[SampleClip]
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        half = clip[: len(clip) // 2 - 1] if clip[4:8] == b"ftyp" else clip[:300]
        told = await door.client.post("/v1/jobs", content=half[:300], headers=RAW)
        ended = await door.ended(told.headers["location"])
        assert (ended["state"], ended["result"]) == ("failed", None)
        problem = ended["problem"]
        assert problem["code"].startswith("media.")
        assert problem["request_id"] == told.headers["x-request-id"]
        at_once = await door.client.post("/v1/tags", content=half[:300], headers=RAW)
        assert without_name(at_once.json()) == without_name(problem)

    opened(test)


def test_what_is_wrong_at_once_is_refused_at_once(
    opened: Opened, samples: list[SampleClip], tmp_path: Path
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        post = door.client.post
        for answer, status, code in (
            (await post("/v1/jobs", content=b"", headers=RAW), 422, "request.empty"),
            (
                await post("/v1/jobs", content=b"#!/bin/sh", headers=RAW),
                422,
                "media.unrecognised_container",
            ),
            (
                await post("/v1/jobs?sampling=often", content=clip, headers=RAW),
                400,
                "config.invalid",
            ),
            (
                await post("/v1/jobs", files={"file": clip}, data={"hook": "x"}),
                422,
                "request.form",
            ),
            (
                await post("/v1/jobs", files={"file": clip}, data={"webhook": "https://a.b/"}),
                422,
                "job.webhook_refused",
            ),
            (
                await post("/v1/jobs", json={"uri": "https://a.b/", "webhook": "x"}),
                422,
                "fetch.scheme_refused",
            ),
            (await post("/v1/tags", json={"uri": "x", "webhook": "x"}), 422, "request.schema"),
            (
                await post("/v1/tags", content=clip, headers={**RAW, "prefer": "wait=soon"}),
                400,
                "request.prefer",
            ),
            (await door.client.get(f"/v1/jobs/{'0' * 32}"), 404, "job.unknown"),
            (await door.client.delete(f"/v1/jobs/{'0' * 32}"), 404, "job.unknown"),
            (await door.client.get(f"/v1/jobs/{'0' * 32}/events"), 404, "job.unknown"),
            (await door.client.get("/v1/jobs/nobody's"), 422, "request.schema"),
            (
                await door.client.get(
                    f"/v1/jobs/{'0' * 32}/events", headers={"last-event-id": "-1"}
                ),
                422,
                "request.schema",
            ),
        ):
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["hint"]
        assert not [*(tmp_path / "jobs" / "uploads").iterdir()]

    opened(test)


@pytest.mark.parametrize(
    ("bounds", "prefer", "status"),
    [
        ({}, None, 200),
        ({}, "respond-async", 202),
        ({}, "wait=0", 202),
        ({}, "respond-async, wait=30", 200),
        ({"sync_bytes": 1000}, None, 202),
        ({"sync_bytes": 1000}, "wait=30", 200),
        ({"sync_bytes": 1000}, "handling=lenient", 202),
        ({"sync_seconds": 0.5}, None, 202),
        ({"sync_seconds": 0.5}, "wait=30", 200),
        ({"sync_seconds": 3600}, None, 200),
    ],
)
def test_which_clips_become_jobs(
    opened: Opened,
    samples: list[SampleClip],
    bounds: dict[str, float],
    prefer: str | None,
    status: int,
) -> None:
    sample = next(s for s in samples if s.path.suffix in (".mp4", ".webm", ".mkv"))
    assert sample.duration_s > 0.5

    async def test(door: Door) -> None:
        headers = RAW if prefer is None else {**RAW, "prefer": prefer}
        answer = await door.client.post(
            "/v1/tags?clip_id=a", content=sample.path.read_bytes(), headers=headers
        )
        assert answer.status_code == status, answer.text
        if status == 200:
            assert answer.json()["clip"]["clip_id"] == "a"
            return
        asked = prefer in {"respond-async", "wait=0"}
        assert answer.headers.get("preference-applied") == ("respond-async" if asked else None)
        ended = await door.ended(answer.headers["location"])
        assert ended["result"]["clip"]["clip_id"] == "a"

    opened(test, **bounds)


def test_a_client_that_waits_gets_the_job_when_the_time_is_over(
    opened: Opened, samples: list[SampleClip]
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        headers = {**RAW, "prefer": "respond-async, wait=1"}
        answer = await door.client.post("/v1/tags", content=clip, headers=headers)
        assert answer.status_code == 202
        door.gate.opened.set()
        assert (await door.ended(answer.headers["location"]))["state"] == "done"

    opened(test, jobs_open=False)


def test_a_client_that_waits_and_leaves_leaves_no_job(
    opened: Opened, samples: list[SampleClip], tmp_path: Path
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/tags",
            "raw_path": b"/v1/tags",
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"content-type", b"video/mp4"),
                (b"prefer", b"respond-async, wait=60"),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        messages = [{"type": "http.request", "body": clip, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await door.gate.entered.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            del message

        await door.api(scope, receive, send)
        await asyncio.wait_for(door.gate.left.wait(), 10)
        assert not [*(tmp_path / "jobs" / "uploads").iterdir()]

    opened(test, jobs_open=False)


def test_cancelling_ends_the_work(opened: Opened, samples: list[SampleClip]) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        running = (await door.client.post("/v1/jobs", content=clip, headers=RAW)).headers
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        waiting = (await door.client.post("/v1/jobs", content=clip, headers=RAW)).headers
        looked = await door.client.get(running["location"])
        assert (looked.json()["state"], looked.headers["retry-after"]) == ("running", "1")
        for job in (running, waiting):
            assert (await door.client.delete(job["location"])).status_code == 204
        await asyncio.wait_for(door.gate.left.wait(), 10)
        for job in (running, waiting):
            ended = (await door.client.get(job["location"])).json()
            assert (ended["state"], ended["problem"]["code"]) == ("failed", "job.cancelled")
            # Once more, and nothing but the name is left.
            assert (await door.client.delete(job["location"])).status_code == 204
            gone = await door.client.get(job["location"])
            assert (gone.status_code, gone.json()["code"]) == (410, "job.expired")
        assert len(door.gate.seen) == 1

    opened(test, jobs_open=False, jobs_at_once=1)


def test_a_full_store_says_so(opened: Opened, samples: list[SampleClip]) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        for _ in range(2):
            told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
            assert told.status_code == 202
        for answer in (
            await door.client.post("/v1/jobs", content=clip, headers=RAW),
            await door.client.post(
                "/v1/tags", content=clip, headers={**RAW, "prefer": "respond-async"}
            ),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "job.store_full")
            assert answer.headers["retry-after"] == "10"
        # Requests are answered all the same.
        assert (await door.client.post("/v1/tags", content=clip, headers=RAW)).status_code == 200

    opened(test, jobs_open=False, jobs_max=2)


def test_a_result_expires(opened: Opened, samples: list[SampleClip]) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        where = told.headers["location"]
        stream = (await door.client.get(f"{where}/events")).text
        assert "event: done" in stream or "event: expired" in stream
        await asyncio.sleep(0.05)
        for path in (where, f"{where}/events"):
            gone = await door.client.get(path)
            assert (gone.status_code, gone.json()["code"]) == (410, "job.expired")

    opened(test, job_ttl_s=0.05)


def test_a_stop_gives_jobs_back_and_the_next_start_runs_them(
    opened: Opened, samples: list[SampleClip]
) -> None:
    clips = [sample.path.read_bytes() for sample in samples[:3]]
    where: list[str] = []

    async def before(door: Door) -> None:
        for clip in clips:
            told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
            where.append(told.headers["location"])
        await asyncio.wait_for(door.gate.entered.wait(), 10)

    async def after(door: Door) -> None:
        for path in where:
            ended = await door.ended(path)
            # The stop was no attempt, and no lease had to run out.
            assert (ended["state"], ended["attempts"]) == ("done", 1)

    opened(before, jobs_open=False, job_lease_s=3600)
    opened(after, job_lease_s=3600)


def test_what_may_pass_is_tried_again_and_a_bug_too(
    opened: Opened,
    samples: list[SampleClip],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("deployments.jobs.runner._RETRY_S", 0.01)
    monkeypatch.setattr("deployments.jobs.runner._IDLE_S", 0.02)
    clip = samples[0].path.read_bytes()
    caplog.set_level(logging.ERROR)

    async def test(door: Door) -> None:
        tagger = door.gate._tagger
        failing: list[Exception] = []

        class Failing:
            plan, full = tagger.plan, tagger.full

            async def tag(self, job: Any) -> Report:
                if failing:
                    raise failing.pop()
                return await tagger.tag(job)

        door.gate._tagger = Failing()
        for errors, state, attempts in (
            ([Overloaded("full")], "done", 2),
            ([ValueError("a bug"), Overloaded("full")], "done", 3),
            ([Overloaded("last"), Overloaded("full"), Overloaded("full")], "failed", 3),
            ([ValueError("a secret")] * 3, "failed", 3),
        ):
            failing[:] = errors
            told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
            ended = await door.ended(told.headers["location"])
            assert (ended["state"], ended["attempts"]) == (state, attempts)
        assert ended["problem"]["code"] == "internal.unexpected"
        assert "secret" not in str(ended)

    opened(test)
    assert "a secret" in caplog.text


def test_a_replica_that_runs_no_jobs_takes_none(
    opened: Opened, samples: list[SampleClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = samples[0].path.read_bytes()
    monkeypatch.setattr("deployments.jobs.leases.Leases.claim", lambda self: 1 // 0)

    async def test(door: Door) -> None:
        async with asyncio.timeout(10):
            while True:
                told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
                if told.status_code != 202:
                    break
        assert (told.status_code, told.json()["code"]) == (503, "job.store_failed")
        assert (await door.client.post("/v1/tags", content=clip, headers=RAW)).status_code == 200

    with pytest.raises(ExceptionGroup) as died:
        opened(test)
    assert died.group_contains(ZeroDivisionError)


def test_no_tables_are_made_before_the_start(opened: Opened, tmp_path: Path) -> None:
    async def test(door: Door) -> None:
        assert (tmp_path / "jobs" / "jobs.sqlite").is_file()
        document = (await door.client.get("/openapi.json")).json()
        assert {"JobRequest", "JobAnswer"} <= set(document["components"]["schemas"])
        body = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
        assert body["application/json"]["schema"]["$ref"].endswith("/JobRequest")
        assert "webhook" in body["multipart/form-data"]["schema"]["properties"]

    assert not (tmp_path / "jobs").exists()
    opened(test)


def test_answers_are_taken_by_an_ordinary_client(opened: Opened, samples: list[SampleClip]) -> None:
    """The loop that a client writes: post, look until it has ended, read."""
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told: httpx.Response = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        looked = await door.client.get(told.headers["location"])
        while looked.json()["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
            looked = await door.client.get(told.headers["location"])
        assert looked.json()["result"]["labels"]

    opened(test)
