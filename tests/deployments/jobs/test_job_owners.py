"""Whose a job is: to other keys there is none, and its key pays for its frames."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.jobs.job import NewJob
from deployments.jobs.store import JobStore
from reelsight.keyring import add_key
from reelsight.samples.clips import SampleClip
from tests.deployments.jobs.conftest import Door

Opened = Callable[..., None]


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Keys by name, in a file beside the jobs."""
    file = tmp_path / "keys.yaml"
    return {
        "first": add_key(file, "first", ["jobs", "tags"], 10)[0],
        "other": add_key(file, "other", ["jobs"])[0],
        "admin": add_key(file, "admin", ["admin"])[0],
    }


def shown(key: str) -> dict[str, str]:
    return {"x-api-key": key, "content-type": "video/mp4"}


def test_to_other_keys_there_is_no_such_job(
    opened: Opened, samples: list[SampleClip], tmp_path: Path, keys: dict[str, str]
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        async def code(method: str, where: str, key: str) -> tuple[int, str]:
            answer = await door.client.request(method, where, headers={"x-api-key": keys[key]})
            told = answer.json()["code"] if answer.status_code >= 400 else ""
            return answer.status_code, told

        sent = await door.client.post("/v1/jobs", content=clip, headers=shown(keys["first"]))
        assert sent.status_code == 202, sent.text
        where = sent.headers["location"]
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        for method, path in (("GET", where), ("GET", f"{where}/events"), ("DELETE", where)):
            assert await code(method, path, "other") == (404, "job.unknown")
        assert not door.gate.left.is_set(), "a stranger cancels nothing"
        assert await code("GET", where, "first") == (200, "")
        assert await code("GET", where, "admin") == (200, "")
        for _ in range(2):
            assert await code("DELETE", where, "first") == (204, "")
        assert await code("GET", where, "first") == (410, "job.expired")
        assert await code("GET", where, "other") == (404, "job.unknown")

    opened(test, jobs_open=False, keys_file=tmp_path / "keys.yaml")


async def posted(door: Door, key: str, clip: bytes, sampling: str, **query: Any) -> httpx.Response:
    return await door.client.post(
        "/v1/jobs", content=clip, headers=shown(key), params={"sampling": sampling, **query}
    )


async def until_taken(door: Door, key: str, clip: bytes, sampling: str) -> None:
    # Sooner than the bucket fills by itself.
    async with asyncio.timeout(8):
        while (await posted(door, key, clip, sampling)).status_code != 202:
            await asyncio.sleep(0.02)


def test_a_job_is_paid_by_what_was_decoded(
    opened: Opened, samples: list[SampleClip], tmp_path: Path, keys: dict[str, str]
) -> None:
    clip = max(samples, key=lambda sample: sample.duration_s)
    data, key = clip.path.read_bytes(), keys["first"]
    assert clip.duration_s * 8 > 12

    async def test(door: Door) -> None:
        # Neither what is refused nor what never ran costs anything.
        for _ in range(4):
            refused = await posted(door, key, data, "rate:0.01", webhook="https://a.b/")
            assert refused.json()["code"] == "job.webhook_refused"
        taken = [await posted(door, key, data, "rate:0.01") for _ in range(2)]
        assert [answer.status_code for answer in taken] == [202, 202]
        third = await posted(door, key, data, "rate:0.01")
        assert (third.status_code, third.json()["code"]) == (429, "quota.frames")
        assert int(third.headers["retry-after"]) >= 1
        # Each had one frame and was taken for four.
        door.gate.opened.set()
        await until_taken(door, key, data, "rate:8")
        # More frames than were thought of: a debt, which even one frame has to wait for.
        async with asyncio.timeout(20):
            while (await posted(door, key, data, "count:1")).status_code != 429:
                await asyncio.sleep(0.02)

    opened(
        test, jobs_open=False, jobs_at_once=1, keys_file=tmp_path / "keys.yaml", reserve_frames=4
    )


def test_a_long_clip_by_the_other_route_is_paid_too(
    opened: Opened, samples: list[SampleClip], tmp_path: Path, keys: dict[str, str]
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        headers = {**shown(keys["first"]), "prefer": "respond-async"}
        answers = [
            (await door.client.post("/v1/tags", content=clip, headers=headers)).status_code
            for _ in range(4)
        ]
        assert answers == [202, 202, 429, 429]

    opened(test, jobs_open=False, keys_file=tmp_path / "keys.yaml", reserve_frames=4)


def test_a_job_that_never_began_costs_nothing(
    opened: Opened, samples: list[SampleClip], tmp_path: Path, keys: dict[str, str]
) -> None:
    clip, key = samples[0].path.read_bytes(), keys["first"]

    async def test(door: Door) -> None:
        await posted(door, key, clip, "rate:1")
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        waits = await posted(door, key, clip, "rate:1")
        assert (await posted(door, key, clip, "rate:1")).status_code == 429
        gone = await door.client.delete(waits.headers["location"], headers={"x-api-key": key})
        assert gone.status_code == 204
        await until_taken(door, key, clip, "rate:1")

    opened(
        test, jobs_open=False, jobs_at_once=1, keys_file=tmp_path / "keys.yaml", reserve_frames=4
    )


def test_a_file_from_before_jobs_had_owners_is_read(tmp_path: Path) -> None:
    bounds: dict[str, Any] = {"max_jobs": 4, "max_bytes": 1000, "ttl_s": 10.0}
    store = JobStore(tmp_path, **bounds)
    old = store.accept(NewJob("a", "b"), b"clip").id
    store.close()
    with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
        database.execute("ALTER TABLE jobs DROP COLUMN owner")
    database.close()
    store = JobStore(tmp_path, **bounds)
    assert store.get(old).asked.owner is None
    new = store.accept(NewJob("a", "b", owner="c"), b"clip").id
    assert store.get(new, "c").asked.owner == "c"
    store.close()
