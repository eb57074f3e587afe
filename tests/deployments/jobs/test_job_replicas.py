"""Several processes over one store: one is killed, another ends its jobs; one cancels another's."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.jobs.store import JobStore
from reelsight.samples.clips import SampleClip
from tests.deployments.jobs.conftest import Door, events_of

Opened = Callable[..., None]
RAW = {"content-type": "video/mp4"}
SCRIPT = Path(__file__).with_name("killed_service.py")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[[], JobStore]]:
    """The store as another process has it."""
    stores = []

    def one() -> JobStore:
        stores.append(JobStore(tmp_path / "jobs", max_jobs=10, max_bytes=1 << 30, ttl_s=100.0))
        return stores[-1]

    yield one
    for store in stores:
        store.close()


@pytest.mark.parametrize("when", ["taken", "ended"])
def test_a_killed_service_loses_no_job(
    opened: Opened, samples: list[SampleClip], tmp_path: Path, when: str
) -> None:
    clips = [sample.path for sample in samples[:6]]
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path / "jobs"), when, *map(str, clips)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == -signal.SIGKILL, run.stderr
    names = run.stdout.split()
    assert len(names) == len(clips)

    async def test(door: Door) -> None:
        for where, clip in zip(names, clips, strict=True):
            events = events_of((await door.client.get(f"{where}/events")).text)
            assert [name for _, name, _ in events].count("done") == 1
            ended = events[-1][2]
            assert ended["attempts"] <= 2
            again = await door.client.post("/v1/tags", files={"file": clip.read_bytes()})
            assert ended["result"]["labels"] == again.json()["labels"]
            assert ended["result"]["provenance"] == again.json()["provenance"]

    opened(test, job_lease_s=1.0)
    assert not [*(tmp_path / "jobs" / "uploads").iterdir()]


def test_what_another_process_cancels_is_dropped_here(
    opened: Opened, samples: list[SampleClip], other: Callable[[], JobStore]
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        where = told.headers["location"]
        listening = asyncio.create_task(door.client.get(f"{where}/events"))
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        other().cancel(told.json()["id"])
        await asyncio.wait_for(door.gate.left.wait(), 10)
        events = events_of((await listening).text)
        assert [name for _, name, _ in events] == ["queued", "running", "failed"]
        # The place is free for the next.
        door.gate.opened.set()
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        assert (await door.ended(told.headers["location"]))["state"] == "done"

    opened(test, jobs_open=False, jobs_at_once=1, job_lease_s=0.6)


def test_leases_are_renewed_while_a_job_runs(
    opened: Opened, samples: list[SampleClip], other: Callable[[], JobStore]
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        store = other()
        until: set[float] = set()
        async with asyncio.timeout(30):
            while len(until) < 4:
                (row,) = store.database.rows("SELECT lease_until FROM jobs")
                until.add(row["lease_until"])
                await asyncio.sleep(0.02)
        door.gate.opened.set()
        assert (await door.ended(told.headers["location"]))["attempts"] == 1

    # A renewal each second, and nobody else who could take it.
    opened(test, jobs_open=False, job_lease_s=3.0)


def test_a_job_that_is_lost_to_another_has_the_others_result(
    opened: Opened, samples: list[SampleClip], other: Callable[[], JobStore]
) -> None:
    from deployments.jobs.leases import Leases

    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        # As if this process had been asleep: for another its lease has run out.
        store = other()
        store.clock = lambda: 1e12
        leases = Leases(store, attempts=3, lease_s=30.0)
        claim = leases.claim()
        assert claim is not None
        assert claim.job.attempts == 2
        door.gate.opened.set()
        await asyncio.wait_for(door.gate.left.wait(), 10)
        assert (await door.client.get(told.headers["location"])).json()["state"] == "running"
        error = {**(await door.client.get("/nowhere")).json(), "detail": "the other's"}
        with store.database.change() as write:
            store.clock = time.time
            store.end(write, claim.job.id, "failed", error)
        ended = (await door.client.get(f"{told.headers['location']}/events")).text
        assert "the other's" in ended

    opened(test, jobs_open=False, job_lease_s=60)
