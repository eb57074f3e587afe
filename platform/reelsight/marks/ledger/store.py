"""The seam of the ledger's stores: one append at a time, whole or not at all.

A store knows rows and hashes. It does not know what rows mean, and it holds no keys.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from reelsight.errors import LedgerError
from reelsight.marks.ledger.row import StoredRow
from reelsight.nouns.mark_trace import LedgerHead

__all__ = ["LedgerStore", "MakeBody", "is_postgres", "missing", "open_store"]

# From the ledger's id and the row's place to the row's body. Runs while the store is locked.
MakeBody = Callable[[str, int], str]


class LedgerStore(AbstractContextManager["LedgerStore"], Protocol):
    """Where rows lie."""

    name: str

    def append(self, slot: str, make_body: MakeBody) -> tuple[StoredRow, bool]:
        """Add a row behind the last one, unless its slot is taken.

        When this returns the row is on the disk. When it raises, or the process dies in it, the row
        is there whole or not at all, and asking again with the same slot tells which.

        Args:
            slot: What there can be one of.
            make_body: Called once the chain's end is ours.

        Returns:
            The row of that slot, and whether this call added it.

        Raises:
            LedgerError: `ledger.busy` after waiting for another issuer, `ledger.failed`.
        """
        ...

    def find(self, slot: str) -> StoredRow | None:
        """The row of a slot."""
        ...

    def get(self, index: int) -> StoredRow | None:
        """The row in a place."""
        ...

    def rows(self, start: int = 0) -> Generator[StoredRow, None, None]:
        """Rows from a place on, in order, as of one moment; closed by who does not read all."""
        ...

    def head(self) -> LedgerHead:
        """What the ledger is now, by its last row."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


def is_postgres(where: str) -> bool:
    """Whether a ledger's place is a PostgreSQL URL."""
    return where.startswith(("postgresql://", "postgres://"))


def open_store(where: str, *, create: bool = False, wait_s: float = 30.0) -> LedgerStore:
    """Open a ledger.

    Args:
        where: SQLite file, or `postgresql://` URL.
        create: Make it where there is none.
        wait_s: How long an append waits for another issuer, seconds.

    Raises:
        LedgerError: `ledger.missing`; `ledger.no_driver` for PostgreSQL without psycopg;
            `ledger.failed`.
    """
    if is_postgres(where):
        from reelsight.marks.ledger.postgres_store import PostgresStore  # noqa: PLC0415

        return PostgresStore(where, create=create, wait_s=wait_s)
    if "://" in where:
        raise LedgerError(
            f"no ledger can be at a {where.partition('://')[0]} URL",
            code="ledger.bad_place",
            hint="A file's path or a postgresql:// URL is wanted.",
        )
    from reelsight.marks.ledger.sqlite_store import SqliteStore  # noqa: PLC0415

    return SqliteStore(Path(where), create=create, wait_s=wait_s)


def missing(name: str) -> LedgerError:
    """The error of a ledger that is not there."""
    return LedgerError(
        f"no ledger at {name}",
        code="ledger.missing",
        hint="`reelsight mark issue` starts one; marks.ledger says where.",
    )
