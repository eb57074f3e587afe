"""Made once a node: by threads, by processes, and when the maker is killed."""

from __future__ import annotations

import subprocess
import sys
import threading
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


def test_waiting_ends_after_the_timeout(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path)
    begun, go_on = threading.Event(), threading.Event()

    def hold(scratch: Path) -> None:
        begun.set()
        go_on.wait()

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(cache.obtain, "k", hold)
        begun.wait()
        with pytest.raises(PackageError, match="has been making k") as caught:
            cache.obtain("k", hold, timeout_s=0.3)
        assert caught.value.code == "package.wait_timeout"
        go_on.set()
        assert holder.result() == tmp_path / "k"


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
