"""Made once a node: by threads, by processes, and when the maker is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.package.node_cache import NodeCache
from reelsight.errors import PackageError

ROOT = Path(__file__).parents[3]

# Makes the entry `k`: says so, waits for a line, writes its file, and logs that it did.
MAKER = """
import os, sys
from pathlib import Path
from engines.package.node_cache import NodeCache
root, log = Path(sys.argv[1]), Path(sys.argv[2])
def make(scratch):
    (scratch / "half").write_text("half")
    print("making", os.getpid(), flush=True)
    sys.stdin.readline()
    (scratch / "file").write_text(str(os.getpid()))
    with log.open("a") as out:
        out.write(f"{os.getpid()}\\n")
entry = NodeCache(root).obtain("k", make, on_wait=lambda pid: print("waiting", pid, flush=True))
print("ready", (entry / "file").read_text(), flush=True)
"""


def maker(root: Path, log: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKER, str(root), str(log)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def says(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def test_one_process_makes_what_the_others_wait_for(tmp_path: Path) -> None:
    root, log = tmp_path / "cache", tmp_path / "log"
    first = maker(root, log)
    assert says(first) == ["making", str(first.pid)]
    others = [maker(root, log) for _ in range(2)]
    for other in others:
        assert says(other) == ["waiting", str(first.pid)]
    assert first.stdin is not None
    first.stdin.write("\n")
    first.stdin.flush()
    for process in (first, *others):
        assert says(process) == ["ready", str(first.pid)]
        assert process.wait() == 0
    end(first, *others)
    assert log.read_text().split() == [str(first.pid)]


def test_a_waiter_takes_over_from_a_maker_that_was_killed(tmp_path: Path) -> None:
    root, log = tmp_path / "cache", tmp_path / "log"
    first = maker(root, log)
    assert says(first)[0] == "making"
    second = maker(root, log)
    assert says(second) == ["waiting", str(first.pid)]
    first.kill()
    assert says(second) == ["making", str(second.pid)]
    # What the dead maker left is gone; only the new maker's scratch is there.
    (left,) = root.glob(".k~*")
    assert [p.name for p in left.iterdir()] == ["half"]
    assert not (root / "k").exists()
    out, _ = second.communicate("\n")
    assert out.split() == ["ready", str(second.pid)]
    end(first)
    assert sorted(p.name for p in root.iterdir()) == [".locks", "k"]
    assert sorted(p.name for p in (root / "k").iterdir()) == ["file", "half"]


def test_threads_make_it_once_too(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path)
    made: list[Path] = []
    together = threading.Barrier(8)

    def work() -> Path:
        together.wait()
        return cache.obtain("k", made.append)

    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(work) for _ in range(8)]
        assert {r.result() for r in results} == {tmp_path / "k"}
    assert len(made) == 1


def test_a_maker_that_fails_leaves_nothing_and_the_next_one_tries(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path)

    def fail(scratch: Path) -> None:
        (scratch / "half").write_text("half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        cache.obtain("k", fail)
    assert [p.name for p in tmp_path.iterdir()] == [".locks"]
    assert cache.obtain("k", lambda scratch: None) == tmp_path / "k"


def damaged_unless(content: str) -> Callable[[Path], str]:
    def check(entry: Path) -> str:
        if (entry / "f").read_text() != content:
            raise PackageError("not that", code="package.damaged")
        return content

    return check


def test_an_entry_that_is_damaged_is_made_anew_once(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path)
    (cache.obtain("k", lambda s: (s / "f").write_text("good")) / "f").write_text("bad")
    found = cache.obtain_whole("k", lambda s: (s / "f").write_text("good"), damaged_unless("good"))
    assert found == "good"
    made: list[Path] = []

    def never(scratch: Path) -> None:
        made.append(scratch)
        (scratch / "f").write_text("worse")

    for key in ("k", "new"):
        made.clear()
        with pytest.raises(PackageError):
            cache.obtain_whole(key, never, damaged_unless("other"))
        assert len(made) == 1


def test_what_another_worker_made_anew_meanwhile_is_not_discarded(tmp_path: Path) -> None:
    """Both saw the damage; the second to take the lock finds it cured."""
    cache = NodeCache(tmp_path)
    (cache.obtain("k", lambda s: (s / "f").write_text("good")) / "f").write_text("bad")
    barrier, made = threading.Barrier(2), []

    def make(scratch: Path) -> None:
        made.append(scratch)
        (scratch / "f").write_text("good")

    def heal(_: int) -> str:
        seen: list[Path] = []

        def check(entry: Path) -> str:
            first = not seen
            seen.append(entry)
            try:
                return damaged_unless("good")(entry)
            finally:
                if first:
                    barrier.wait(30)

        return cache.obtain_whole("k", make, check)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(heal, range(2))) == ["good", "good"]
    assert len(made) == 1


@pytest.mark.parametrize("call", ["flock", "truncate"])
def test_a_lock_that_the_disk_refuses_is_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC if call == "truncate" else errno.ENOLCK, "no")

    monkeypatch.setattr(fcntl if call == "flock" else os, call, refuse)
    with pytest.raises(PackageError) as caught:
        NodeCache(tmp_path).obtain("k", lambda scratch: None)
    assert caught.value.code == "package.unwritable"


def test_sweeping_leaves_the_scratch_of_other_keys(tmp_path: Path) -> None:
    """The key `k` must not take `k-2` for its own."""
    cache = NodeCache(tmp_path)
    inner: list[Path] = []

    def outer(scratch: Path) -> None:
        inner.append(cache.obtain("k", lambda s: (s / "f").write_text("k")))
        (scratch / "f").write_text("k-2")

    cache.obtain("k-2", outer)
    assert (tmp_path / "k-2" / "f").read_text() == "k-2"


def test_what_was_discarded_is_made_again(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path)
    cache.discard("k")
    cache.obtain("k", lambda scratch: (scratch / "f").write_text("1"))
    cache.discard("k")
    assert not (tmp_path / "k").exists()
    entry = cache.obtain("k", lambda scratch: (scratch / "f").write_text("2"))
    assert (entry / "f").read_text() == "2"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".locks", "k"]


def test_a_place_that_cannot_be_written_is_words(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for root in (Path("/proc/nowhere"), file):
        with pytest.raises(PackageError) as caught:
            NodeCache(root).obtain("k", lambda scratch: None)
        assert caught.value.code == "package.unwritable"


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".locks", "k~1", "x" * 200])
def test_a_key_is_a_plain_name(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no plain name"):
        NodeCache(tmp_path).obtain(key, lambda scratch: None)
