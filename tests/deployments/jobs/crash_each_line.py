"""Runs a job again and again, killed by SIGKILL before each line of the jobs' code in turn.

Each round has a directory and a process of its own. After the kill another process comes, later
than any lease, and does what a replica does. One line of JSON a round says what was left.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import deployments.jobs
from deployments.jobs.job import NewJob
from deployments.jobs.leases import Leases
from deployments.jobs.outbox import Outbox
from deployments.jobs.store import JobStore

CODE = str(Path(deployments.jobs.__file__).parent)
LATER_S = 5000.0


def live(directory: Path, by: str, kill_at: int | None, later_s: float) -> None:
    """A process's life: take a job (the first alone), run what there is, post it."""
    lines = 0

    def each(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            lines += 1
            if lines == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
        return each

    def note(**told: Any) -> None:
        with (directory / "notes").open("a") as file:
            file.write(json.dumps({"by": by, **told}) + "\n")

    if kill_at is not None:
        sys.settrace(each)
    store = JobStore(
        directory / "jobs",
        max_jobs=10,
        max_bytes=1000,
        ttl_s=100_000.0,
        clock=lambda: time.time() + later_s,
    )
    store.sweep()
    if by == "first":
        asked = NewJob("clip", "request", None, "https://hooks.test/")
        note(accepted=store.accept(asked, b"the upload").id)
    leases = Leases(store, attempts=3, lease_s=30.0)
    while (claim := leases.claim()) is not None:
        assert store.uploads.read(claim.job.id) == b"the upload"
        note(ran=claim.job.id)
        leases.renew(claim, 2, 1)
        note(finished=leases.finish(claim, {"by": by}))
    outbox = Outbox(store, attempts=5, backoff_s=1.0)
    while (job := outbox.claim()) is not None:
        note(posted=job.id, result=job.result)
        outbox.delivered(job)
    store.sweep()
    store.close()


def in_a_process(directory: Path, by: str, kill_at: int | None, later_s: float) -> int:
    """Its exit status, negative for a signal."""
    child = os.fork()
    if not child:
        live(directory, by, kill_at, later_s)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def left(directory: Path) -> dict[str, Any]:
    """What there is in the end."""
    notes = (directory / "notes").read_text().splitlines() if (directory / "notes").exists() else []
    store = JobStore(directory / "jobs", max_jobs=10, max_bytes=1000, ttl_s=100_000.0)
    rows = [dict(row) for row in store.database.rows("SELECT * FROM jobs")]
    events = {row["id"]: [e.name for e in store.events(row["id"], 0)] for row in rows}
    files = sorted(store.uploads.names())
    store.close()
    return {"notes": [*map(json.loads, notes)], "jobs": rows, "events": events, "files": files}


def main(root: Path) -> None:
    kill_at = 0
    status = -signal.SIGKILL
    while status == -signal.SIGKILL:
        kill_at += 1
        directory = root / str(kill_at)
        directory.mkdir()
        status = in_a_process(directory, "first", kill_at, 0.0)
        second = in_a_process(directory, "second", None, LATER_S)
        told = {"kill_at": kill_at, "first": status, "second": second, **left(directory)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
