"""An issuer in a process of its own, which stops where it is told to and waits there to be killed.

    python -m tests.reelsight.marks.issuing_child PLACE POINT RECIPIENT

It says `at POINT` on stdout when it is there. `storm` issues without end and tells each serial once
it has it.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any, NoReturn

from reelsight.marks.keys import Keyring, TenantKey
from reelsight.marks.ledger import Ledger, LedgerStore, open_store
from reelsight.marks.times import utc_now
from tests.reelsight.marks.made_copies import order


class _StopsAfterInsert:
    """A connection that is stuck between the insert and the commit."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def execute(self, query: str, *values: Any) -> Any:
        found = self._db.execute(query, *values)
        if query.lstrip().startswith("INSERT"):
            stop("after insert")
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def stop(point: str) -> NoReturn:
    print(f"at {point}", flush=True)
    sys.stdin.read()
    raise SystemExit("nobody killed me")


def stuck_clock() -> str:
    # The clock is asked while the row is made, behind the lock.
    stop("before insert")


def main(place: str, point: str, recipient: str) -> None:
    keyring = Keyring((TenantKey(bytes(range(32))),))
    with open_store(place, create=True) as store:
        if point == "storm":
            storm(store, keyring, recipient)
        if point == "after insert":
            store._db = _StopsAfterInsert(store._db)  # type: ignore[attr-defined]
        clock = stuck_clock if point == "before insert" else utc_now
        Ledger(store, keyring, clock).issue(order(recipient), "child")
        stop(point)


def storm(store: LedgerStore, keyring: Keyring, recipient: str) -> NoReturn:
    ledger = Ledger(store, keyring)
    for i in itertools.count():
        print(ledger.issue(order(f"{recipient}-{i}"), "child").row.serial, flush=True)
    raise AssertionError


if __name__ == "__main__":
    main(*sys.argv[1:])
