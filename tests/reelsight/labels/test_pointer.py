"""Which bank is current, in a file and in a real Redis, in one suite."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from reelsight.errors import BankConflict, BankError, ConfigError, PointerUnreachable
from reelsight.labels import BankPointer, BankRef, BankState
from reelsight.labels.file_pointer import FilePointer
from reelsight.labels.redis_pointer import RedisPointer
from reelsight.labels.release import change

A, B, C = (BankRef(name, name * 64) for name in "abc")
Opened = Callable[[], BankPointer]


@pytest.fixture(params=["file", "redis"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the same pointer again and again."""
    if request.param == "file":
        return lambda: FilePointer(tmp_path / "banks" / "current.json")
    url: str = request.getfixturevalue("redis_url")
    return lambda: RedisPointer(url, f"test:{tmp_path}")


def test_publish_and_roll_back_walk_the_trail() -> None:
    start = BankState()
    assert (start.current, start.release) == (None, 0)
    one = start.with_draft(A, 2).published(A, 0, 1.0)
    assert (one.current, one.release, one.version, one.drafts) == (A, 1, 2, {})
    three = one.published(B, 1, 2.0).published(C, 2, 3.0)
    back = three.rolled_back(3, 4.0)
    assert (back.current, back.release) == (B, 4)
    assert back.rolled_back(4, 5.0).current == A
    assert back.rolled_back(4, 5.0).rolled_back(5, 6.0).current is None
    assert [(item.number, item.action, item.bank) for item in back.history] == [
        (1, "publish", A),
        (2, "publish", B),
        (3, "publish", C),
        (4, "rollback", B),
    ]
    assert BankState.from_json(back.to_json()) == back


def test_a_release_that_was_not_seen_is_a_conflict() -> None:
    state = BankState().published(A, 0, 1.0)
    acts: list[Callable[[], BankState]] = [
        lambda: state.published(B, 0, 2.0),
        lambda: state.published(A, 5, 2.0),
        lambda: state.rolled_back(0, 2.0),
        lambda: BankState().rolled_back(0, 2.0),
    ]
    for act in acts:
        with pytest.raises(BankConflict) as caught:
            act()
        assert caught.value.http_status == 409
    # What was published by a call whose answer was lost is not published twice.
    assert state.published(A, 0, 9.0) is state
    assert state.published(A, 1, 9.0) is state
    # But a roll back to it is not that call.
    back = state.published(B, 1, 2.0).rolled_back(2, 3.0)
    assert back.current == A
    with pytest.raises(BankConflict):
        back.published(A, 2, 4.0)


def test_the_trail_and_the_history_are_bounded() -> None:
    state = BankState()
    for i in range(1000):
        state = state.published((A, B)[i % 2], i, float(i))
    assert state.release == 1000
    assert len(state.to_json()) < 1 << 17
    for _ in range(63):
        state = state.rolled_back(state.release, 0.0)
        assert state.current in (A, B)
    with pytest.raises(BankConflict):
        state.rolled_back(state.release, 0.0)


def test_drafts_are_bounded_and_replaced_by_name() -> None:
    state = BankState().with_draft(A, 2).with_draft(B, 2)
    newer = BankRef("a", "f" * 64)
    assert state.with_draft(newer, 2).drafts == {"a": newer, "b": B}
    with pytest.raises(BankConflict) as caught:
        state.with_draft(C, 2)
    assert caught.value.code == "bank.too_many_drafts"


def test_a_pointer_gives_back_what_was_put(opened: Opened) -> None:
    assert opened().read() == BankState()
    after = BankState().with_draft(A, 9).published(A, 0, 1.5)
    assert opened().swap(BankState(), after)
    assert opened().read() == after


def test_the_older_version_is_refused(opened: Opened) -> None:
    first, second = opened(), opened()
    before = first.read()
    assert first.swap(before, before.published(A, 0, 1.0))
    assert not second.swap(before, before.published(B, 0, 2.0))
    assert second.read().current == A


def test_of_many_who_publish_at_once_one_does(opened: Opened) -> None:
    refs = [BankRef(f"bank{i}", f"{i:064x}") for i in range(8)]
    start = threading.Barrier(len(refs))

    def publish(ref: BankRef) -> BankRef | None:
        pointer = opened()
        start.wait()
        try:
            return change(pointer, lambda now: now.published(ref, 0, 1.0)).current
        except BankConflict:
            return None

    with ThreadPoolExecutor(len(refs)) as threads:
        winners = [ref for ref in threads.map(publish, refs) if ref is not None]
    state = opened().read()
    assert winners == [state.current]
    assert (state.version, state.release) == (1, 1)


def _count(opened: Opened, times: int) -> None:
    for _ in range(times):
        change(opened(), lambda now: now.published((A, B)[now.release % 2], now.release, 0.0))


def test_no_change_of_other_processes_is_lost(tmp_path: Path) -> None:
    pointer = FilePointer(tmp_path / "current.json")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_count, args=(lambda: pointer, 25)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert pointer.read().release == 75


KILLED = """
import os, signal, sys
from pathlib import Path
import reelsight.atomic as atomic, reelsight.labels.file_pointer as file_pointer
from reelsight.labels import BankRef
from reelsight.labels.release import change
point, path = sys.argv[1], Path(sys.argv[2])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if point == "locked": file_pointer.write_whole = die
elif point == "written": atomic.os.replace = die
elif point == "replaced":
    real = os.replace
    atomic.os.replace = lambda *a: (real(*a), die())
ref = BankRef("b", "b" * 64)
change(file_pointer.FilePointer(path), lambda now: now.published(ref, now.release, 1.0))
"""


@pytest.mark.parametrize(("point", "current"), [("locked", A), ("written", A), ("replaced", B)])
def test_a_writer_that_is_killed_leaves_a_whole_state(
    point: str, current: BankRef, tmp_path: Path
) -> None:
    pointer = FilePointer(tmp_path / "current.json", lock_s=0.5)
    change(pointer, lambda now: now.published(A, 0, 0.0))
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, point, str(pointer.path)], check=False, timeout=60
    )
    assert ended.returncode == -signal.SIGKILL
    state = pointer.read()
    assert state.current == current
    # Nor is the lock left behind.
    assert change(pointer, lambda now: now.published(C, state.release, 2.0)).current == C


def test_a_writer_that_holds_on_is_waited_for_only_so_long(tmp_path: Path) -> None:
    pointer = FilePointer(tmp_path / "current.json", lock_s=0.05)
    with pointer._locked(), pytest.raises(PointerUnreachable) as caught:
        pointer.swap(BankState(), BankState().published(A, 0, 0.0))
    assert (caught.value.http_status, caught.value.retryable) == (503, True)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}', b"\xff\xfe", b"null"]
)
def test_a_damaged_pointer_is_an_error_and_not_an_empty_one(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "current.json"
    path.write_bytes(text)
    for ask in (
        lambda: FilePointer(path).read(),
        lambda: FilePointer(path).swap(BankState(), BankState().published(A, 0, 0.0)),
    ):
        with pytest.raises(BankError) as caught:
            ask()
        assert caught.value.code == "bank.pointer_damaged"
    assert path.read_bytes() == text


def test_a_redis_that_is_not_there_is_said_without_its_password() -> None:
    pointer = RedisPointer("redis://me:secret@127.0.0.1:1/0", "k")
    for ask in (pointer.read, lambda: pointer.swap(BankState(), BankState())):
        with pytest.raises(PointerUnreachable) as caught:
            ask()
        assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError) as refused:
        RedisPointer("postgres://me:secret@db/0", "k")
    assert "secret" not in str(refused.value)


def test_redis_drops_a_swap_that_somebody_else_came_before(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer = RedisPointer(redis_url, f"race:{tmp_path}")
    real = redis.client.Pipeline.multi

    def late(pipe: redis.client.Pipeline) -> None:
        # Between the comparison and the write.
        monkeypatch.setattr(redis.client.Pipeline, "multi", real)
        assert RedisPointer(redis_url, f"race:{tmp_path}").swap(
            BankState(), BankState().published(A, 0, 0.0)
        )
        real(pipe)

    monkeypatch.setattr(redis.client.Pipeline, "multi", late)
    assert not pointer.swap(BankState(), BankState().published(B, 0, 0.0))
    assert pointer.read().current == A
