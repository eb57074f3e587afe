"""The store of jobs: bounds, leases, one result, and what it forgets."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployments.jobs.errors import JobExpired, JobStoreBroken, JobStoreFull, JobUnknown
from deployments.jobs.job import NewJob
from deployments.jobs.leases import Claim, Leases
from deployments.jobs.outbox import Outbox
from deployments.jobs.store import JobStore
from reelsight.errors import RunError


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., JobStore]]:
    """Opens the store; several of them are several processes."""
    stores = []

    def one(max_jobs: int = 4, max_bytes: int = 1000) -> JobStore:
        stores.append(
            JobStore(
                tmp_path / "jobs", max_jobs=max_jobs, max_bytes=max_bytes, ttl_s=100.0, clock=clock
            )
        )
        return stores[-1]

    yield one
    for store in stores:
        store.close()


def leases_of(store: JobStore, attempts: int = 2) -> Leases:
    return Leases(store, attempts=attempts, lease_s=10.0)


def claimed(leases: Leases) -> Claim:
    claim = leases.claim()
    assert claim is not None
    return claim


ASKED = NewJob("clip", "request-1")


def test_a_job_from_end_to_end(make: Callable[..., JobStore], tmp_path: Path) -> None:
    store = make()
    job = store.accept(NewJob("clip", "request-1", "count:2", None), b"bytes")
    assert (job.state, job.size, job.attempts, len(job.id)) == ("queued", 5, 0, 32)
    file = tmp_path / "jobs" / "uploads" / job.id
    assert file.read_bytes() == b"bytes"
    assert not stat.S_IMODE(file.stat().st_mode) & 0o077
    assert not stat.S_IMODE((tmp_path / "jobs" / "jobs.sqlite").stat().st_mode) & 0o077
    leases = leases_of(store)
    claim = claimed(leases)
    assert (claim.job.id, claim.job.asked.sampling) == (job.id, "count:2")
    assert leases.claim() is None
    assert leases.renew(claim, 7, 3)
    assert (store.get(job.id).decoded, store.get(job.id).embedded) == (7, 3)
    assert leases.finish(claim, {"labels": []})
    ended = store.get(job.id)
    assert (ended.state, ended.result, ended.attempts) == ("done", {"labels": []}, 1)
    assert not file.exists()
    events = store.events(job.id, 0)
    assert [event.name for event in events] == ["queued", "running", "progress", "done"]
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert [event.seq for event in store.events(job.id, 3)] == [4]


def test_progress_replaces_progress(make: Callable[..., JobStore]) -> None:
    store = make()
    job = store.accept(ASKED, b"x")
    leases = leases_of(store)
    claim = claimed(leases)
    for frames in range(50):
        assert leases.renew(claim, 50, frames)
        assert leases.renew(claim, 50, frames)
    events = store.events(job.id, 0)
    assert [event.name for event in events] == ["queued", "running", "progress"]
    assert (events[-1].seq, events[-1].data) == (52, {"decoded": 50, "embedded": 49})


def test_names_cannot_be_guessed(make: Callable[..., JobStore]) -> None:
    store = make(max_jobs=200)
    names = {store.accept(ASKED, b"x").id for _ in range(100)}
    assert len(names) == 100
    for position in range(32):
        assert len({name[position] for name in names}) > 8


def test_number_and_bytes_are_bounded(make: Callable[..., JobStore], clock: Clock) -> None:
    store = make()
    leases = leases_of(store)
    for _ in range(3):
        store.accept(ASKED, b"x" * 300)
    with pytest.raises(JobStoreFull, match="900 bytes"):
        store.accept(ASKED, b"x" * 101)
    store.accept(ASKED, b"x" * 100)
    with pytest.raises(JobStoreFull, match="4 jobs"):
        store.accept(ASKED, b"")
    assert len(store.uploads.names()) == 4
    # A result that is small makes room for bytes, its expiry for a job.
    assert leases.finish(claimed(leases), {})
    with pytest.raises(JobStoreFull, match="4 jobs"):
        store.accept(ASKED, b"x")
    clock.now += 101
    store.sweep()
    store.accept(ASKED, b"x" * 300)


def test_a_lease_that_ran_out_is_taken_over_and_its_result_refused(
    make: Callable[..., JobStore], clock: Clock
) -> None:
    first, second = make(), make()
    job = first.accept(ASKED, b"x")
    slow = claimed(leases_of(first))
    assert leases_of(second).claim() is None
    clock.now += 9
    assert leases_of(first).renew(slow, None, None)
    clock.now += 9
    assert leases_of(second).claim() is None
    clock.now += 2
    quick = claimed(leases_of(second))
    assert quick.job.attempts == 2
    assert not leases_of(first).renew(slow, 1, 1)
    assert not leases_of(first).finish(slow, {"by": "slow"})
    assert not leases_of(first).fail(slow, RunError("late"))
    assert not leases_of(first).give_back(slow, counted=True)
    assert leases_of(second).finish(quick, {"by": "quick"})
    assert not leases_of(second).finish(quick, {"by": "quick again"})
    assert first.get(job.id).result == {"by": "quick"}
    names = [event.name for event in first.events(job.id, 0)]
    assert names == ["queued", "running", "running", "done"]


def test_attempts_are_bounded(make: Callable[..., JobStore], clock: Clock) -> None:
    store = make()
    job, other = store.accept(ASKED, b"x"), store.accept(ASKED, b"y")
    leases = leases_of(store)
    for attempt in (1, 2):
        claim = claimed(leases)
        assert (claim.job.id, claim.job.attempts, leases.last(claim)) == (
            job.id,
            attempt,
            attempt == 2,
        )
        clock.now += 11
    # The third finds it abandoned, and takes the next.
    assert claimed(leases).job.id == other.id
    ended = store.get(job.id)
    assert (ended.state, ended.result) == ("failed", None)
    assert ended.problem is not None
    assert (ended.problem["code"], ended.problem["request_id"]) == ("job.abandoned", "request-1")
    assert store.uploads.names() == {other.id}


def test_what_is_given_back_waits_and_counts_or_not(
    make: Callable[..., JobStore], clock: Clock
) -> None:
    store = make()
    job = store.accept(ASKED, b"x")
    leases = leases_of(store)
    assert leases.give_back(claimed(leases), counted=False)
    assert store.get(job.id).attempts == 0
    assert leases.give_back(claimed(leases), wait_s=5, counted=True)
    assert leases.claim() is None
    clock.now += 5
    assert claimed(leases).job.attempts == 2


def test_cancelling_before_while_and_after(make: Callable[..., JobStore], clock: Clock) -> None:
    store = make()
    leases = leases_of(store)
    waiting, running, done = (store.accept(ASKED, b"x") for _ in range(3))
    store.cancel(waiting.id)
    claim = claimed(leases)
    assert claim.job.id == running.id
    store.cancel(running.id)
    assert not leases.renew(claim, None, None)
    assert not leases.finish(claim, {})
    for job in (waiting, running):
        problem = store.get(job.id).problem
        assert problem is not None
        assert problem["code"] == "job.cancelled"
    assert leases.finish(claimed(leases), {})
    assert store.cancel(done.id).state == "done"
    with pytest.raises(JobExpired):
        store.get(done.id)
    with pytest.raises(JobExpired):
        store.cancel(done.id)
    assert store.uploads.names() == set()


def test_results_expire_and_are_forgotten(make: Callable[..., JobStore], clock: Clock) -> None:
    store = make()
    job = store.accept(NewJob("clip", "r", None, "https://hooks.test/"), b"x")
    leases = leases_of(store)
    assert leases.finish(claimed(leases), {"a": 1})
    clock.now += 101
    # Its webhook has not been posted: it is kept so long.
    store.sweep()
    assert store.get(job.id).result == {"a": 1}
    outbox = Outbox(store, attempts=1, backoff_s=1.0)
    posted = outbox.claim()
    assert posted is not None
    outbox.refused(posted)
    with pytest.raises(JobExpired):
        store.get(job.id)
    store.sweep()
    with pytest.raises(JobExpired):
        store.get(job.id)
    assert store.events(job.id, 0) == []
    clock.now += 101
    store.sweep()
    with pytest.raises(JobUnknown):
        store.get(job.id)


def test_posts_back_off_and_give_up(make: Callable[..., JobStore], clock: Clock) -> None:
    store = make()
    job = store.accept(NewJob("clip", "r", None, "https://hooks.test/"), b"x")
    leases = leases_of(store)
    outbox = Outbox(store, attempts=3, backoff_s=2.0)
    assert outbox.claim() is None
    assert leases.finish(claimed(leases), {})
    waits = []
    for _ in range(3):
        while (posted := outbox.claim()) is None:
            clock.now += 1
            waits.append(1)
        waits.append(0)
        outbox.refused(posted)
    assert waits == [0, *[1] * 2, 0, *[1] * 10, 0]
    assert (store.get(job.id).hook, store.get(job.id).hook_attempts) == ("given_up", 3)
    clock.now += 1000
    assert outbox.claim() is None


def test_sweep_takes_away_what_no_job_needs(
    make: Callable[..., JobStore], clock: Clock, tmp_path: Path
) -> None:
    store = make()
    job = store.accept(ASKED, b"x")
    (tmp_path / "jobs" / "uploads" / ("0" * 32)).write_bytes(b"left")
    store.sweep()
    assert store.uploads.names() == {job.id}


def test_an_upload_that_cannot_be_written_leaves_nothing(
    make: Callable[..., JobStore], tmp_path: Path
) -> None:
    store = make(max_jobs=1)
    (tmp_path / "jobs" / "uploads").rmdir()
    with pytest.raises(JobStoreBroken, match="upload of 1 bytes"):
        store.accept(ASKED, b"x")
    (tmp_path / "jobs" / "uploads").mkdir()
    store.accept(ASKED, b"x")


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JobStoreBroken, match="cannot open jobs"):
        JobStore(tmp_path / "file", max_jobs=1, max_bytes=1, ttl_s=1.0)
    (tmp_path / "jobs.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(JobStoreBroken, match="cannot open jobs"):
        JobStore(tmp_path, max_jobs=1, max_bytes=1, ttl_s=1.0)
