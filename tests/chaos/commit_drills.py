"""Crashes, races and faults of the commit layer, in processes that may die; a program, without Ray.

    python -m tests.chaos.commit_drills crash|race|flaky|full DIRECTORY [N]

It forks one driver after the other, which is safe here: nothing has started a thread. What a
driver and its workers do is `tests.made_runs.work`: the code of production but for the pixels.
Prints one JSON document; breaks where a row is lost, doubled or different.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelsight.errors import StoreError
from reelsight.store.disk import Disk
from reelsight.store.location import Location
from reelsight.store.manifest import Manifest
from reelsight.store.objects import LocalObjects
from reelsight.store.run import Run
from reelsight.store.run_plan import ManifestIdentity
from reelsight.store.runs import RunStore
from reelsight.store.verify import verify
from tests.chaos.broken_disks import DyingDisk, FlakyDisk, FullDisk
from tests.made_runs import DECIDED, manifest_of, work

CLIPS = [f"clip-{i}" for i in range(20)] + [f"dead-{i}" for i in range(4)]
SHARDS = 2
ENOUGH = 2000


def drive(root: Path, manifest: Path, disk: Disk | None = None) -> Run:
    """The same command, from its start to `_SUCCESS`."""
    return drive_on(RunStore(root, LocalObjects(root, disk)), manifest)


def drive_on(store: RunStore, manifest: Path) -> Run:
    """The same command, wherever its runs lie."""
    identity = ManifestIdentity.of(manifest)
    run = store.resume_or_start(DECIDED, identity, lambda: Manifest.open(manifest), SHARDS)
    if not run.complete:
        work(run, store.objects, run.begin(), rows_per_part=6)
        run.finish()
    return run


def rows_digest(run: Run) -> str:
    """sha256 over all rows, in order of id."""
    files = [file for commit in run.commits() for file in commit.files]
    tables = [pq.ParquetFile(run.objects.open(file.path)).read() for file in files]
    rows = pa.concat_tables(tables).sort_by("clip_id").to_pylist()
    return sha256(json.dumps(rows, sort_keys=True, default=str).encode()).hexdigest()


def apart(task: Callable[[], Any]) -> int:
    """Begin a task in a process of its own; returns its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        task()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(pid: int) -> int:
    """Wait for a process: 0 done, 1 broke, -9 killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def whole(root: Location, manifest: Path, expected: str | None = None) -> str:
    """Finish a run undisturbed, and demand that it holds exactly what it must."""
    run = drive_on(RunStore(root), manifest)
    found = verify(run)
    assert found.state == "complete", found
    assert (found.tagged, found.dead) == (20, 4), found
    digest = rows_digest(run)
    assert expected in {None, digest}, (digest, expected)
    assert len(RunStore(root).ids()) == 1
    return digest


def sound(root: Location) -> int:
    """Demand that what a driver left is not damaged; returns the number of commits."""
    store = RunStore(root)
    for name in store.ids():
        found = verify(store.open(name))
        assert not found.findings, found
        assert found.tagged + found.dead + found.pending == found.rows, found
    return len([n for n in store.objects.names("runs") if "/commits/0" in n])


def crash(base: Path, manifest: Path, expected: str) -> dict[str, Any]:
    """A driver is killed at every step there is, and what it left is finished by the next."""
    seen: list[int] = []
    for at in range(1, ENOUGH):
        root = base / f"crash-{at}"
        code = ended(apart(partial(drive, root, manifest, DyingDisk(at))))
        if code == 0:
            return {"points": at - 1, "commits": seen}
        assert code == -signal.SIGKILL, code
        seen.append(sound(root))
        whole(root, manifest, expected)
    raise AssertionError("it never came through")


def race(
    place: Callable[[str], Location],
    manifest: Path,
    expected: str,
    rounds: int,
    opened: Callable[[Location], RunStore] = RunStore,
) -> dict[str, Any]:
    """Two drivers on one output at once, from its start; both must come through."""
    shared = []
    for number in range(rounds):
        root = place(f"race-{number}")
        ready, go = os.pipe()

        def runner(root: Location = root, ready: int = ready) -> None:
            os.read(ready, 1)
            drive_on(opened(root), manifest)

        pids = [apart(runner), apart(runner)]
        os.write(go, b"..")
        assert [ended(pid) for pid in pids] == [0, 0]
        os.close(ready)
        os.close(go)
        whole(root, manifest, expected)
        (name,) = RunStore(root).ids()
        run = RunStore(root).open(name)
        # Losers clear up after themselves.
        assert not verify(run).garbage
        assert len(run.objects.children(f"runs/{name}/input")) == 1
        shared.append(len({commit.attempt for commit in run.commits()}))
    return {"rounds": rounds, "won_by_both": shared.count(2), "won_by_one": shared.count(1)}


def flaky(base: Path, manifest: Path, expected: str, rounds: int) -> dict[str, Any]:
    """One step in ten fails; the same command is run again until it comes through."""
    faults = broke = 0
    for seed in range(rounds):
        root = base / f"flaky-{seed}"
        disk = FlakyDisk(0.1, seed)
        for _ in range(ENOUGH):
            try:
                drive(root, manifest, disk)
                break
            except StoreError as error:
                if error.code != "store.unwritable":
                    raise
                broke += 1
                sound(root)
        faults += disk.failed
        whole(root, manifest, expected)
    return {"rounds": rounds, "faults": faults, "broken_drivers": broke}


def full(base: Path, manifest: Path, expected: str) -> dict[str, Any]:
    """The disk has less and less room; with room again, the same command comes through."""
    codes = []
    for number, room in enumerate(range(0, 200_000, 10_000)):
        root = base / f"full-{number}"
        try:
            drive(root, manifest, FullDisk(room))
            codes.append("")
        except StoreError as error:
            codes.append(error.code)
        sound(root)
        whole(root, manifest, expected)
    return {"codes": codes}


def main() -> None:
    """Run one drill."""
    drill, directory, *rest = sys.argv[1:]
    base = Path(directory)
    manifest = manifest_of(base / "manifest.parquet", CLIPS)
    expected = whole(base / "unbroken", manifest)
    if drill == "race":
        told = race(base.joinpath, manifest, expected, int(rest[0]))
    elif drill == "flaky":
        told = flaky(base, manifest, expected, int(rest[0]))
    else:
        told = {"crash": crash, "full": full}[drill](base, manifest, expected)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
