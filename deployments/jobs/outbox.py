"""The outbox: results that are yet to be posted. A row is delivered, or given up, exactly once."""

from __future__ import annotations

from deployments.jobs.job import Job
from deployments.jobs.store import JobStore

__all__ = ["Outbox"]

_GROWS = 5.0
_DUE = "SELECT id FROM jobs WHERE hook = 'pending' AND hook_at <= ? ORDER BY hook_at LIMIT 1"


class Outbox:
    """Webhooks of jobs that have ended.

    Args:
        store: Of the jobs.
        attempts: Posts before a receiver is given up.
        backoff_s: Seconds before the second; five times as many before each further.
        post_s: Seconds within which a post has ended; whoever is silent for longer counts as dead.
    """

    def __init__(
        self, store: JobStore, *, attempts: int, backoff_s: float, post_s: float = 60.0
    ) -> None:
        self._store, self._attempts = store, attempts
        self._backoff_s, self._post_s = backoff_s, post_s

    def claim(self) -> Job | None:
        """A job whose result is due to be posted, counted as posted once more; None for none."""
        now = self._store.clock()
        if not self._store.database.rows(_DUE, now):
            return None
        with self._store.database.change() as write:
            due = write(_DUE, (now,)).fetchone()
            if due is None:
                return None
            row = write(
                "UPDATE jobs SET hook_attempts = hook_attempts + 1, hook_at = ? WHERE id = ?"
                " RETURNING *",
                (now + self._post_s, due["id"]),
            ).fetchone()
        return Job.of(row)

    def delivered(self, job: Job) -> None:
        """Its receiver has taken it."""
        self._settle(job, "delivered")

    def refused(self, job: Job, *, for_good: bool = False) -> None:
        """Its receiver has not taken it, or never will."""
        if for_good or job.hook_attempts >= self._attempts:
            self._settle(job, "given_up")
            return
        wait_s = self._backoff_s * _GROWS ** (job.hook_attempts - 1)
        with self._store.database.change() as write:
            write(
                "UPDATE jobs SET hook_at = ? WHERE id = ? AND hook = 'pending'",
                (self._store.clock() + wait_s, job.id),
            )

    def _settle(self, job: Job, hook: str) -> None:
        with self._store.database.change() as write:
            write("UPDATE jobs SET hook = ? WHERE id = ? AND hook = 'pending'", (hook, job.id))
