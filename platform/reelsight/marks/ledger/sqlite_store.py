"""The ledger in a SQLite file: the default, for one machine.

BEGIN IMMEDIATE lets one issuer at a time see the chain's end and write behind it; the primary key
would refuse a second row in the same place even if it did not. SQLite's rollback journal decides
after a crash, with `synchronous=EXTRA`: a commit that was answered survives the loss of power.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from reelsight.errors import LedgerBusy, LedgerError
from reelsight.marks.ledger.row import StoredRow, body_digest, first_hash, next_hash
from reelsight.marks.ledger.store import MakeBody, missing
from reelsight.marks.times import utc_now
from reelsight.nouns.mark_trace import LedgerHead

__all__ = ["SqliteStore"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (one INTEGER PRIMARY KEY CHECK (one = 1), ledger TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    idx INTEGER PRIMARY KEY, slot TEXT NOT NULL UNIQUE, body TEXT NOT NULL,
    prev TEXT NOT NULL UNIQUE, hash TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON rows
    BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON rows
    BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;
"""
_COLUMNS = "idx, slot, body, prev, hash"


class SqliteStore:
    """A ledger in one file; see LedgerStore. One thread at a time.

    Args:
        path: The file; made with mode 0600, because it names recipients.
        create: Make it where there is none.
        wait_s: How long to wait for another issuer, seconds.

    Raises:
        LedgerError: As `open_store` does.
    """

    def __init__(self, path: Path, *, create: bool = False, wait_s: float = 30.0) -> None:
        self.name = str(path)
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        elif not path.is_file():
            raise missing(self.name)
        # What a crash left half done is undone by who opens the file next, which writes; so even
        # readers open it for writing where they may.
        mode = "rw" if os.access(path, os.W_OK) else "ro"
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        with self._failures():
            self._db = sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None)
            try:
                # Text that was tampered with is still read, so that its row can be named.
                self._db.text_factory = lambda data: data.decode("utf-8", "replace")
                self._db.execute("PRAGMA synchronous=EXTRA")
                if create:
                    self._prepare()
                else:
                    self._db.execute("PRAGMA query_only=ON")
                found = self._db.execute("SELECT ledger FROM meta").fetchone()
            except sqlite3.Error:
                self._db.close()
                raise
        if found is None:
            self._db.close()
            raise LedgerError(f"{self.name} is no ledger", code="ledger.missing")
        self._ledger = str(found[0])

    def append(self, slot: str, make_body: MakeBody) -> tuple[StoredRow, bool]:
        with self._failures(), self._transaction():
            found = self._one("WHERE slot = ?", slot)
            if found is not None:
                return found, False
            last = self._one("ORDER BY idx DESC LIMIT 1")
            index = 0 if last is None else last.index + 1
            prev = first_hash(self._ledger) if last is None else last.hash
            body = make_body(self._ledger, index)
            row = StoredRow(index, slot, body, prev, next_hash(prev, body_digest(body)))
            self._db.execute(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?)",
                (row.index, row.slot, row.body, row.prev, row.hash),
            )
        return row, True

    def find(self, slot: str) -> StoredRow | None:
        with self._failures():
            return self._one("WHERE slot = ?", slot)

    def get(self, index: int) -> StoredRow | None:
        with self._failures():
            return self._one("WHERE idx = ?", index)

    def rows(self, start: int = 0) -> Generator[StoredRow, None, None]:
        with self._failures():
            query = f"SELECT {_COLUMNS} FROM rows WHERE idx >= ? ORDER BY idx"  # noqa: S608
            for found in self._db.execute(query, (start,)):
                yield _stored(found)

    def head(self) -> LedgerHead:
        with self._failures():
            last = self._one("ORDER BY idx DESC LIMIT 1")
        if last is None:
            return LedgerHead(self._ledger, 0, first_hash(self._ledger), utc_now())
        return LedgerHead(self._ledger, last.index + 1, last.hash, utc_now())

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        # The tables come in one transaction: where one is, all are.
        if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            return
        with self._transaction():
            for statement in _SCHEMA.split(";\n"):
                # A trigger's body holds a semicolon of its own, before END.
                self._db.execute(statement)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (1, ?)", (secrets.token_hex(16),))

    def _one(self, clause: str, *values: object) -> StoredRow | None:
        query = f"SELECT {_COLUMNS} FROM rows {clause}"  # noqa: S608
        found = self._db.execute(query, values).fetchone()
        return None if found is None else _stored(found)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise LedgerBusy(f"another issuer holds {self.name}") from error
            raise LedgerError(f"{self.name}: {error}") from error
        except sqlite3.Error as error:
            raise LedgerError(f"{self.name}: {error}") from error


def _stored(found: tuple[object, ...]) -> StoredRow:
    index, *texts = found
    return StoredRow(int(str(index)), *map(str, texts))
