"""JobStore: which jobs there are. What clients do to them; those who run them have `leases`.

States::

    receiving -> queued -> running -> done | failed -> expired -> (forgotten)
                    ^---------'  a retry, a dead process, a process that stops

`receiving` has a row and not yet a whole upload; no client knows its name. `expired` keeps the name
alone, for as long again as results are kept. A client that cancels makes `failed` of queued and
running, with the problem `job.cancelled`, and `expired` of what has ended.

Each arrow is one transaction, on the disk when it returns. What a killed process leaves, and who
puts it right:

1. In `accept`, before the row: nothing. The client has no answer.
2. After the row, before the upload is whole and queued: `receiving`, whose lease runs out; `sweep`
   takes row and file away. The client has no answer.
3. After it is queued, before the 202: the job runs, and its result expires unread.
4. After `claim`, before `finish`: `running`, whose lease runs out; the next `claim` takes it, until
   its attempts are used up and it has failed.
5. After `finish`, before the upload is removed: `sweep` removes it.
6. After a webhook was posted, before that is written down: it is posted again under the same
   webhook-id, by which receivers know it.

A result is written under the lease alone: a process that lost its lease, however late it wakes up,
writes nothing. So a job runs at least once, and has one result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deployments.jobs.database import Database, tell
from deployments.jobs.errors import JobCancelled, JobExpired, JobStoreFull, JobUnknown
from deployments.jobs.job import ENDED, Event, Job, NewJob, new_id
from deployments.jobs.uploads import Uploads
from deployments.problems import described

__all__ = ["JobStore"]

_RECEIVING_S = 600.0
_SOON_S, _LONGEST_RETRY_S = 10.0, 3600.0


class JobStore:
    """Jobs in a directory. Threads and processes may share it.

    Args:
        directory: Where; made where it is not there.
        max_jobs: Jobs kept, ended ones too.
        max_bytes: Bytes of their uploads and results.
        ttl_s: Seconds for which a result is kept.
        clock: Unix time, seconds: leases outlive the machine's start.

    Raises:
        JobStoreBroken: The directory cannot be used. So do all methods.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_jobs: int,
        max_bytes: int,
        ttl_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.database = Database(directory)
        self.uploads = Uploads(directory / "uploads")
        self.ttl_s, self.clock = ttl_s, clock
        self._max_jobs, self._max_bytes = max_jobs, max_bytes

    def accept(self, asked: NewJob, data: bytes) -> Job:
        """Queue a job; no crash loses it once this has returned.

        Raises:
            JobStoreFull: So many jobs, or bytes, are not kept.
        """
        job = self._reserve(asked, len(data))
        try:
            self.uploads.write(job, data)
            queued = self._enqueue(job)
        except BaseException:
            with self.database.change() as write:
                write("DELETE FROM jobs WHERE id = ? AND state = 'receiving'", (job,))
            raise
        if queued is None:
            self.uploads.drop(job)
            raise JobStoreFull("the upload took too long to be written", code="job.slow_disk")
        return queued

    def get(self, job: str, reader: str | None = None) -> Job:
        """A job as it stands.

        Args:
            job: Its name.
            reader: Id of the key that asks, to which other keys' jobs do not exist; None for
                whoever may read all.

        Raises:
            JobUnknown: There is none of this name.
            JobExpired: It was there.
        """
        rows = self.database.rows(
            "SELECT * FROM jobs WHERE id = ?1 AND (?2 IS NULL OR owner = ?2)", job, reader
        )
        if not rows or rows[0]["state"] == "receiving":
            raise JobUnknown(f"no job {job!r}")
        found = Job.of(rows[0])
        past = found.expires_at is not None and found.expires_at <= self.clock()
        if found.state == "expired" or (past and found.hook != "pending"):
            raise JobExpired(f"job {job!r} expired")
        return found

    def events(self, job: str, after: int) -> list[Event]:
        """What happened to a job after the event of that number, in order."""
        rows = self.database.rows(
            "SELECT * FROM events WHERE job = ? AND seq > ? ORDER BY seq", job, after
        )
        return [Event(row["seq"], row["name"], json.loads(row["data"])) for row in rows]

    def cancel(self, job: str, reader: str | None = None) -> Job:
        """End a job that has not ended; forget the result of one that has.

        Args:
            job: Its name.
            reader: As in `get`.

        Returns:
            The job before that.

        Raises:
            JobUnknown: There is none of this name.
            JobExpired: It was there.
        """
        found = self.get(job, reader)
        with self.database.change() as write:
            row = write("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone()
            if row is not None and row["state"] in ENDED:
                self.expire(write, job)
            elif row is not None:
                error = JobCancelled("the client cancelled the job")
                self.end(write, job, "failed", described(error, found.asked.request_id))
        self.uploads.drop(job)
        return found

    def end(self, write: Callable[..., Any], job: str, state: str, told: dict[str, Any]) -> None:
        """Give a job its result (`done`) or its problem (`failed`), in a transaction."""
        now = self.clock()
        text = json.dumps(told)
        column = "result" if state == "done" else "problem"
        hook = (
            "'none'"
            if told.get("code") == JobCancelled.code
            else ("CASE WHEN webhook IS NULL THEN 'none' ELSE 'pending' END")
        )
        write(
            f"UPDATE jobs SET state = ?, {column} = ?, held = ?, lease = NULL, lease_until = NULL,"  # noqa: S608 - both are words of this function.
            f" ended_at = ?, expires_at = ?, hook = {hook}, hook_at = ? WHERE id = ?",
            (state, text, len(text), now, now + self.ttl_s, now, job),
        )
        tell(write, job, state)

    def expire(self, write: Callable[..., Any], job: str) -> None:
        """Keep nothing of a job but its name, in a transaction."""
        write("DELETE FROM events WHERE job = ?", (job,))
        write(
            "UPDATE jobs SET state = 'expired', result = NULL, problem = NULL, webhook = NULL,"
            " clip_id = '', held = 0, hook = 'none', expires_at = ? WHERE id = ?",
            (self.clock() + self.ttl_s, job),
        )

    def sweep(self) -> None:
        """Expire what is due, forget what has been expired for long, remove what crashes left."""
        now = self.clock()
        # Files first: each that belongs to a job had its row before it was there.
        files = self.uploads.names()
        with self.database.change() as write:
            due = write(
                "SELECT id FROM jobs WHERE state IN ('done', 'failed') AND expires_at <= ?"
                " AND hook != 'pending'",
                (now,),
            ).fetchall()
            for row in due:
                self.expire(write, row["id"])
            write("DELETE FROM jobs WHERE state = 'receiving' AND lease_until <= ?", (now,))
            write("DELETE FROM jobs WHERE state = 'expired' AND expires_at <= ?", (now,))
            write(
                "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state = 'expired'"
                " ORDER BY expires_at DESC LIMIT -1 OFFSET ?)",
                (self._max_jobs,),
            )
            kept = write("SELECT id FROM jobs WHERE state IN ('receiving', 'queued', 'running')")
            needed = {row["id"] for row in kept}
        for name in files - needed:
            self.uploads.drop(name)

    def close(self) -> None:
        """Close the file; idempotent."""
        self.database.close()

    def _reserve(self, asked: NewJob, size: int) -> str:
        now, job = self.clock(), new_id()
        with self.database.change() as write:
            count, held, expires = write(
                "SELECT COUNT(*), COALESCE(SUM(held), 0), MIN(expires_at) FROM jobs"
                " WHERE state != 'expired'"
            ).fetchone()
            if count >= self._max_jobs or held + size > self._max_bytes:
                full = JobStoreFull(
                    f"{count} jobs of {held} bytes are kept, {self._max_jobs} of "
                    f"{self._max_bytes} is the limit; this one has {size}"
                )
                # The next to expire makes room; who has not ended says nothing of when it will.
                left = _SOON_S if expires is None else expires - now
                full.retry_after_s = min(_LONGEST_RETRY_S, max(_SOON_S, left))
                raise full
            write(
                "INSERT INTO jobs (id, state, clip_id, request_id, owner, sampling, webhook, size,"
                " held, created_at, lease_until)"
                " VALUES (?, 'receiving', ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job,
                    asked.clip_id,
                    asked.request_id,
                    asked.owner,
                    asked.sampling,
                    asked.webhook,
                    size,
                    size,
                    now,
                    now + _RECEIVING_S,
                ),
            )
        return job

    def _enqueue(self, job: str) -> Job | None:
        with self.database.change() as write:
            row = write(
                "UPDATE jobs SET state = 'queued', lease_until = NULL"
                " WHERE id = ? AND state = 'receiving' RETURNING *",
                (job,),
            ).fetchone()
            if row is not None:
                tell(write, job, "queued")
        return None if row is None else Job.of(row)
