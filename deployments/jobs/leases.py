"""Leases: how those who run jobs share them: each job is run, and ended, under its lease alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deployments.jobs.database import tell
from deployments.jobs.errors import JobAbandoned
from deployments.jobs.job import Job
from deployments.jobs.store import JobStore
from deployments.problems import described
from reelsight.errors import ReelsightError

__all__ = ["Claim", "Leases"]

_DUE = (
    "SELECT * FROM jobs WHERE (state = 'queued' AND not_before <= ?)"
    " OR (state = 'running' AND lease_until <= ?) ORDER BY created_at, rowid LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that is the caller's for as long as the lease is renewed.

    Attributes:
        job: As it stood when it was claimed.
        lease: Whose it is.
    """

    job: Job
    lease: str


class Leases:
    """Jobs that are to be run.

    Args:
        store: Of the jobs.
        attempts: Attempts before a job has failed.
        lease_s: Seconds of silence after which whoever runs a job counts as dead.
    """

    def __init__(self, store: JobStore, *, attempts: int, lease_s: float) -> None:
        self._store, self._attempts, self.lease_s = store, attempts, lease_s

    def claim(self) -> Claim | None:
        """The oldest job that nobody runs; None where there is none."""
        now = self._store.clock()
        # Whoever waits for jobs asks often: only one that sees some keeps others from writing.
        if not self._store.database.rows(_DUE, now, now):
            return None
        lost: list[str] = []
        with self._store.database.change() as write:
            claim = self._take(write, now, lost)
        for job in lost:
            self._store.uploads.drop(job)
        return claim

    def renew(self, claim: Claim, decoded: int | None, embedded: int | None) -> bool:
        """Say that the job is still run, and how far.

        Returns:
            Whether it is still the caller's; it is not when it was cancelled or taken over.
        """
        with self._store.database.change() as write:
            row = write(
                "SELECT decoded, embedded FROM jobs"
                " WHERE id = ? AND lease = ? AND state = 'running'",
                (claim.job.id, claim.lease),
            ).fetchone()
            if row is None:
                return False
            write(
                "UPDATE jobs SET lease_until = ?, decoded = ?, embedded = ? WHERE id = ?",
                (self._store.clock() + self.lease_s, decoded, embedded, claim.job.id),
            )
            if (row["decoded"], row["embedded"]) != (decoded, embedded):
                tell(write, claim.job.id, "progress", decoded=decoded, embedded=embedded)
        return True

    def finish(
        self,
        claim: Claim,
        result: dict[str, Any],
        decoded: int | None = None,
        embedded: int | None = None,
    ) -> bool:
        """Give the job its result; False, and nothing, where it is not the caller's any more."""
        return self._end(claim, "done", result, decoded, embedded)

    def fail(
        self,
        claim: Claim,
        error: ReelsightError,
        decoded: int | None = None,
        embedded: int | None = None,
    ) -> bool:
        """Let the job have failed; False, and nothing, where it is not the caller's any more."""
        problem = described(error, claim.job.asked.request_id)
        return self._end(claim, "failed", problem, decoded, embedded)

    def give_back(self, claim: Claim, *, wait_s: float = 0.0, counted: bool) -> bool:
        """Queue the job again.

        Args:
            claim: The job.
            wait_s: Seconds before anybody begins it again.
            counted: Whether the attempt was one; a process that stops has made none.

        Returns:
            Whether it was the caller's.
        """
        with self._store.database.change() as write:
            moved = write(
                "UPDATE jobs SET state = 'queued', lease = NULL, lease_until = NULL,"
                " not_before = ?, attempts = attempts - ?, decoded = NULL, embedded = NULL"
                " WHERE id = ? AND lease = ? AND state = 'running'",
                (
                    self._store.clock() + wait_s,
                    0 if counted else 1,
                    claim.job.id,
                    claim.lease,
                ),
            ).rowcount
            if moved:
                tell(write, claim.job.id, "queued")
        return bool(moved)

    def last(self, claim: Claim) -> bool:
        """Whether there will be no further attempt."""
        return claim.job.attempts >= self._attempts

    def _take(self, write: Callable[..., Any], now: float, lost: list[str]) -> Claim | None:
        while True:
            row = write(_DUE, (now, now)).fetchone()
            if row is None:
                return None
            if row["attempts"] < self._attempts:
                break
            error = JobAbandoned(f"{row['attempts']} attempts ended without a result")
            self._store.end(write, row["id"], "failed", described(error, row["request_id"]))
            lost.append(row["id"])
        lease = secrets.token_hex(8)
        taken = write(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, lease = ?,"
            " lease_until = ?, decoded = NULL, embedded = NULL WHERE id = ? RETURNING *",
            (lease, now + self.lease_s, row["id"]),
        ).fetchone()
        tell(write, row["id"], "running", attempt=taken["attempts"])
        return Claim(Job.of(taken), lease)

    def _end(
        self,
        claim: Claim,
        state: str,
        told: dict[str, Any],
        decoded: int | None,
        embedded: int | None,
    ) -> bool:
        with self._store.database.change() as write:
            held = write(
                "UPDATE jobs SET decoded = COALESCE(?, decoded), embedded = COALESCE(?, embedded)"
                " WHERE id = ? AND lease = ? AND state = 'running'",
                (decoded, embedded, claim.job.id, claim.lease),
            ).rowcount
            if not held:
                return False
            self._store.end(write, claim.job.id, state, told)
        self._store.uploads.drop(claim.job.id)
        return True
