"""The SQLite file behind the jobs: its tables, and transactions that are on the disk when they end.

What the rows mean is the business of those who write them. Replicas of one machine share the file;
it must not lie on a network file system, whose locks and memory maps SQLite's log cannot use.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from deployments.jobs.errors import JobStoreBroken

__all__ = ["Database", "tell"]

_BUSY_S = 10.0
_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    clip_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    owner TEXT,
    sampling TEXT,
    webhook TEXT,
    size INTEGER NOT NULL,
    held INTEGER NOT NULL,
    created_at REAL NOT NULL,
    ended_at REAL,
    expires_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    lease TEXT,
    lease_until REAL,
    decoded INTEGER,
    embedded INTEGER,
    result TEXT,
    problem TEXT,
    hook TEXT NOT NULL DEFAULT 'none',
    hook_attempts INTEGER NOT NULL DEFAULT 0,
    hook_at REAL,
    seq INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created_at);
CREATE INDEX IF NOT EXISTS jobs_by_hook ON jobs (hook, hook_at) WHERE hook = 'pending';
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL, seq INTEGER NOT NULL, name TEXT NOT NULL, data TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) WITHOUT ROWID;
"""


class Database:
    """One connection, shared by threads one after the other.

    Args:
        directory: Made, for its owner alone, where it is not there.

    Raises:
        JobStoreBroken: The file cannot be opened.
    """

    def __init__(self, directory: Path) -> None:
        self._lock = threading.Lock()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = directory / "jobs.sqlite"
            # SQLite gives its log the mode of the file: results are nobody else's.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self.connection = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise JobStoreBroken(f"cannot open jobs in {directory}: {error}") from error
        self.connection.row_factory = sqlite3.Row
        try:
            self.connection.execute("PRAGMA journal_mode = WAL")
            # A commit that has returned survives the loss of power.
            self.connection.execute("PRAGMA synchronous = FULL")
            with self.change() as write:
                for statement in _TABLES.split(";"):
                    write(statement)
                columns = {row["name"] for row in write("PRAGMA table_info(jobs)")}
                if "owner" not in columns:  # A file from before jobs had owners.
                    write("ALTER TABLE jobs ADD COLUMN owner TEXT")
        except sqlite3.Error as error:
            self.connection.close()
            raise JobStoreBroken(f"cannot open jobs in {directory}: {error}") from error

    @contextmanager
    def change(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        """A transaction that may write; nobody else writes meanwhile.

        Yields:
            What executes a statement in it.

        Raises:
            JobStoreBroken: It could not be brought to the disk; nothing of it happened.
        """
        with self._lock:
            try:
                self.connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self.connection.execute
                    self.connection.execute("COMMIT")
                except BaseException:
                    if self.connection.in_transaction:
                        self.connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise JobStoreBroken(f"the store of jobs failed: {error}") from error

    def rows(self, question: str, *values: Any) -> list[sqlite3.Row]:
        """The rows that a question finds.

        Raises:
            JobStoreBroken: It could not be read.
        """
        with self._lock:
            try:
                with closing(self.connection.execute(question, values)) as cursor:
                    return cursor.fetchall()
            except sqlite3.Error as error:
                raise JobStoreBroken(f"the store of jobs failed: {error}") from error

    def close(self) -> None:
        """Close the file; idempotent."""
        with self._lock:
            self.connection.close()


def tell(write: Callable[..., sqlite3.Cursor], job: str, name: str, **data: Any) -> None:
    """Write down that something happened to a job, in the transaction in which it did.

    The last progress replaces the one before, so that a job has few events however long it runs.
    """
    number = write("UPDATE jobs SET seq = seq + 1 WHERE id = ? RETURNING seq", (job,)).fetchone()
    if name == "progress":
        write("DELETE FROM events WHERE job = ? AND name = 'progress'", (job,))
    write("INSERT INTO events VALUES (?, ?, ?, ?)", (job, number["seq"], name, json.dumps(data)))
