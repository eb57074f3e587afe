"""The ledger in PostgreSQL: for issuers on several machines. Needs the extra `postgres` (psycopg).

A table lock that conflicts with itself lets one issuer at a time see the chain's end and write
behind it; readers go on. The server ends the transaction of an issuer that dies, and its
lock with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from reelsight.errors import LedgerBusy, LedgerError
from reelsight.marks.ledger.row import StoredRow, body_digest, first_hash, next_hash
from reelsight.marks.ledger.store import MakeBody, missing
from reelsight.marks.times import utc_now
from reelsight.nouns.mark_trace import LedgerHead
from reelsight.redaction import redacted

try:
    import psycopg
except ImportError as error:
    raise LedgerError(
        "a ledger in PostgreSQL needs psycopg, which is not installed",
        code="ledger.no_driver",
        hint="pip install 'reelsight[postgres]'",
    ) from error

__all__ = ["PostgresStore"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS reelsight_ledger_meta (
    one INTEGER PRIMARY KEY CHECK (one = 1), ledger TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reelsight_ledger (
    idx BIGINT PRIMARY KEY, slot TEXT NOT NULL UNIQUE, body TEXT NOT NULL,
    prev TEXT NOT NULL UNIQUE, hash TEXT NOT NULL);
CREATE OR REPLACE FUNCTION reelsight_ledger_only_grows() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN RAISE EXCEPTION ''the ledger only grows''; END';
CREATE OR REPLACE TRIGGER only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON reelsight_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION reelsight_ledger_only_grows();
"""
_COLUMNS = "idx, slot, body, prev, hash"
# Makes two first issuers take turns; the number is ours alone.
_SETUP_LOCK = 0x7265656C


class PostgresStore:
    """A ledger in a PostgreSQL database; see LedgerStore. One thread at a time.

    Args:
        url: `postgresql://...`; the tables are in the first schema of its search path.
        create: Make the tables where there are none.
        wait_s: How long to wait for another issuer, seconds.

    Raises:
        LedgerError: As `open_store` does.
    """

    def __init__(self, url: str, *, create: bool = False, wait_s: float = 30.0) -> None:
        self.name = redacted(url)
        self._url = url
        self._wait_ms = max(int(1000 * wait_s), 1)
        with self._failures():
            self._db: Any = psycopg.connect(url, autocommit=True)
            try:
                if create:
                    self._prepare()
                found = self._db.execute("SELECT ledger FROM reelsight_ledger_meta").fetchone()
            except psycopg.errors.UndefinedTable:
                found = None
            except BaseException:
                self._db.close()
                raise
        if found is None:
            self._db.close()
            raise missing(self.name)
        self._ledger = str(found[0])

    def append(self, slot: str, make_body: MakeBody) -> tuple[StoredRow, bool]:
        with self._failures(), self._db.transaction():
            self._db.execute(f"SET LOCAL lock_timeout = {self._wait_ms}")
            self._db.execute("SET LOCAL synchronous_commit = on")
            self._db.execute("LOCK TABLE reelsight_ledger IN SHARE ROW EXCLUSIVE MODE")
            found = self._one("WHERE slot = %s", slot)
            if found is not None:
                return found, False
            last = self._one("ORDER BY idx DESC LIMIT 1")
            index = 0 if last is None else last.index + 1
            prev = first_hash(self._ledger) if last is None else last.hash
            body = make_body(self._ledger, index)
            row = StoredRow(index, slot, body, prev, next_hash(prev, body_digest(body)))
            self._db.execute(
                "INSERT INTO reelsight_ledger VALUES (%s, %s, %s, %s, %s)",
                (row.index, row.slot, row.body, row.prev, row.hash),
            )
        return row, True

    def find(self, slot: str) -> StoredRow | None:
        with self._failures():
            return self._one("WHERE slot = %s", slot)

    def get(self, index: int) -> StoredRow | None:
        with self._failures():
            return self._one("WHERE idx = %s", index)

    def rows(self, start: int = 0) -> Generator[StoredRow, None, None]:
        # On a connection of its own: an append between two rows must not join this transaction.
        with (
            self._failures(),
            psycopg.connect(self._url) as reading,
            reading.cursor(name="ledger_rows") as cursor,
        ):
            cursor.execute(
                f"SELECT {_COLUMNS} FROM reelsight_ledger WHERE idx >= %s ORDER BY idx",  # noqa: S608
                (start,),
            )
            for found in cursor:
                yield StoredRow(*found)

    def head(self) -> LedgerHead:
        with self._failures():
            last = self._one("ORDER BY idx DESC LIMIT 1")
        if last is None:
            return LedgerHead(self._ledger, 0, first_hash(self._ledger), utc_now())
        return LedgerHead(self._ledger, last.index + 1, last.hash, utc_now())

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> PostgresStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        with self._db.transaction():
            self._db.execute("SELECT pg_advisory_xact_lock(%s)", (_SETUP_LOCK,))
            found = self._db.execute("SELECT to_regclass('reelsight_ledger_meta')").fetchone()
            if found[0] is not None:
                return
            self._db.execute(_SCHEMA)
            self._db.execute(
                "INSERT INTO reelsight_ledger_meta VALUES (1, %s)", (secrets.token_hex(16),)
            )

    def _one(self, clause: str, *values: object) -> StoredRow | None:
        query = f"SELECT {_COLUMNS} FROM reelsight_ledger {clause}"  # noqa: S608
        found = self._db.execute(query, values).fetchone()
        return None if found is None else StoredRow(*found)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except psycopg.errors.LockNotAvailable as error:
            raise LedgerBusy(f"another issuer holds {self.name}") from error
        except psycopg.Error as error:
            said = redacted(str(error).strip() or type(error).__name__)
            raise LedgerError(f"{self.name}: {said}") from error
