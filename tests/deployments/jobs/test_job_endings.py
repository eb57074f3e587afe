"""What must not keep jobs, or those who run them, from ending: broken disks, old words, load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from deployments.jobs.bell import Bell
from deployments.jobs.errors import JobStoreFull
from deployments.jobs.job import NewJob
from deployments.jobs.leases import Leases
from deployments.jobs.runner import JobRunner
from deployments.jobs.store import JobStore
from deployments.jobs.webhook import Webhooks
from deployments.service import TagJob
from reelsight.errors import Overloaded
from reelsight.nouns.report import Report
from reelsight.plan import TaggingPlan
from reelsight.samples.clips import SampleClip
from tests.deployments.jobs.conftest import Door
from tests.deployments.jobs.test_webhook import SECRET

Opened = Callable[..., None]
RAW = {"content-type": "video/mp4"}


class Endless:
    """A tagger that is never done."""

    full = False

    def __init__(self, plan: TaggingPlan) -> None:
        self.plan = plan
        self.entered = asyncio.Event()

    async def tag(self, job: TagJob) -> Report:
        self.entered.set()
        await asyncio.Event().wait()
        raise AssertionError(job)


def store_in(tmp_path: Path, max_jobs: int = 4) -> JobStore:
    return JobStore(tmp_path / "jobs", max_jobs=max_jobs, max_bytes=1 << 20, ttl_s=100.0)


@pytest.mark.parametrize("busy", [True, False])
def test_a_runner_ends_although_its_disk_is_broken(
    tmp_path: Path, fake_plan: TaggingPlan, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        store, tagger = store_in(tmp_path), Endless(fake_plan)
        leases = Leases(store, attempts=3, lease_s=30.0)
        runner = JobRunner(leases, store.uploads, tagger, Bell(), Bell(), at_once=1, timeout_s=60.0)
        asking, go = asyncio.Event(), asyncio.Event()
        if busy:
            store.accept(NewJob("a", "b"), b"clip")
        else:
            loop, claim = asyncio.get_running_loop(), leases.claim

            def slow() -> object:
                loop.call_soon_threadsafe(asking.set)
                asyncio.run_coroutine_threadsafe(go.wait(), loop).result(30)
                return claim()

            monkeypatch.setattr(leases, "claim", slow)
        running = asyncio.create_task(runner.run())
        await asyncio.wait_for((tagger.entered if busy else asking).wait(), 20)
        store.close()
        running.cancel()
        await asyncio.sleep(0)
        go.set()
        _, late = await asyncio.wait({running}, timeout=5)
        for task in late:  # So that a failure of this test ends, too.
            task.get_loop().call_later(0.1, task.cancel)
        assert not late

    asyncio.run(run())


def test_a_result_in_other_words_ends_no_poster(
    opened: Opened, samples: list[SampleClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.jobs.desk._POST_IDLE_S", 0.02)
    store = store_in(tmp_path)
    store.accept(NewJob("a", "b", webhook="https://hooks.test/"), b"clip")
    leases = Leases(store, attempts=3, lease_s=30.0)
    claim = leases.claim()
    assert claim is not None
    leases.finish(claim, {"words": "of another version"})
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        async with asyncio.timeout(20):
            while store.database.rows("SELECT hook FROM jobs")[0]["hook"] == "pending":
                await asyncio.sleep(0.01)
                answer = await door.client.post("/v1/jobs", content=clip, headers=RAW)
                assert answer.status_code == 202, answer.text

    opened(test, webhooks=Webhooks(("hooks.test",), SECRET))
    store.close()


def test_a_full_store_says_when_the_next_expires(tmp_path: Path) -> None:
    store = store_in(tmp_path, max_jobs=1)
    store.accept(NewJob("a", "b"), b"clip")
    with pytest.raises(JobStoreFull) as full:
        store.accept(NewJob("a", "b"), b"clip")
    assert full.value.retry_after_s == 10
    leases = Leases(store, attempts=3, lease_s=30.0)
    claim = leases.claim()
    assert claim is not None
    leases.finish(claim, {})
    with pytest.raises(JobStoreFull) as full:
        store.accept(NewJob("a", "b"), b"clip")
    assert 90 < full.value.retry_after_s <= 100
    store.close()


def test_the_problem_of_a_job_that_was_waited_for_is_a_whole_answer(
    opened: Opened, samples: list[SampleClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        async def crowded(job: TagJob) -> Report:
            raise Overloaded(f"no place for {job.clip_id}")

        monkeypatch.setattr(door.gate, "tag", crowded)
        headers = {**RAW, "prefer": "respond-async, wait=30"}
        answer = await door.client.post("/v1/tags", content=clip, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "engine.overloaded")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["reelsight-code"] == "engine.overloaded"

    opened(test, job_attempts=1)
