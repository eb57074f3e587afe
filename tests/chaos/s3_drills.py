"""Races, faults and a death over runs on S3, in processes of their own; a program.

    python -m tests.chaos.s3_drills race|flaky LOCATION DIRECTORY N
    python -m tests.chaos.s3_drills die LOCATION MANIFEST N [NAME=VALUE]...

LOCATION has PREFIX where a drill's own name goes. `die` is a backfill on the Ray that RAY_ADDRESS
names, whose driver is killed behind its Nth commit. The others print one JSON document, and break
where a row is lost, doubled or different from a run on a disk.
"""

from __future__ import annotations

import json
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from jobs.backfill import backfill
from reelsight.cli.options import assignment
from reelsight.errors import StoreError
from reelsight.settings import Settings
from reelsight.store.location import Location, S3Place
from reelsight.store.runs import RunStore
from reelsight.store.s3 import S3Objects
from tests.chaos.commit_drills import CLIPS, ENOUGH, drive_on, race, sound, whole
from tests.made_runs import manifest_of
from tests.s3_server import DyingBucket, FlakyBucket, MeetingBucket

_MEET_S = 60


def flaky(uri: str, manifest: Path, expected: str, rounds: int) -> dict[str, Any]:
    """One request in ten fails or its answer is lost; the same command runs until it is through."""
    faults = lost = broke = 0
    for seed in range(rounds):
        root = uri.replace("PREFIX", f"flaky-{seed}")
        bucket = FlakyBucket(S3Place.parse(root), 0.1, seed)
        # Fewer tries than production has, so that drivers break too.
        store = RunStore(root, S3Objects(bucket, pause_s=0.0, tries=2))
        for _ in range(ENOUGH):
            try:
                drive_on(store, manifest)
                break
            except StoreError as error:
                if error.code not in {"store.unwritable", "store.unreadable"}:
                    raise
                broke += 1
                sound(root)
        faults += bucket.failed
        lost += bucket.lost
        whole(root, manifest, expected)
    return {"rounds": rounds, "faults": faults, "lost_creates": lost, "broken_drivers": broke}


def raced(uri: str, manifest: Path, expected: str, rounds: int) -> dict[str, Any]:
    """Two drivers on one output at once, which offer each shard's commit at the same moment."""
    meeting = get_context("fork").Barrier(2, timeout=_MEET_S)

    def opened(root: Location) -> RunStore:
        return RunStore(root, S3Objects(MeetingBucket(S3Place.parse(str(root)), meeting)))

    return race(lambda name: uri.replace("PREFIX", name), manifest, expected, rounds, opened)


def main() -> None:
    """Run one drill."""
    drill, uri, directory, rounds, *rest = sys.argv[1:]
    if drill == "die":
        bucket = DyingBucket(S3Place.parse(uri), int(rounds))
        settings = Settings.load(None, dict(assignment(text) for text in rest))
        backfill(Path(directory), uri, settings, objects=S3Objects(bucket))
        raise AssertionError("it lived")
    base = Path(directory)
    manifest = manifest_of(base / "manifest.parquet", CLIPS)
    expected = whole(base / "unbroken", manifest)
    if drill == "race":
        told = raced(uri, manifest, expected, int(rounds))
    else:
        told = flaky(uri, manifest, expected, int(rounds))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
