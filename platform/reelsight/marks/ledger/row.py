"""Rows of the ledger: what is written, as which bytes, and how one hash leads to the next.

The hash of a row is taken over the hash before it and the sha256 of its body. So a chain can be
followed from one row to a head without seeing the bodies between.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from reelsight.errors import LedgerError
from reelsight.nouns.mark import Carrier, Identity, IssuedCopy

__all__ = [
    "Kind",
    "StoredRow",
    "body_digest",
    "body_of",
    "copy_of",
    "facts_of",
    "first_hash",
    "next_hash",
    "parse_body",
]

Kind = Literal["issued", "embedded"]
_TEXTS = ("asset_sha256", "channel", "valid_from", "key_id", "commitment")


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row as a store holds it.

    Attributes:
        index: Its place, from 0.
        slot: What there can be one of: `issued:SERIAL`, or `embedded:SERIAL:SHA256`.
        body: Canonical JSON; the bytes that are hashed.
        prev: Hash before it.
        hash: Its own.
    """

    index: int
    slot: str
    body: str
    prev: str
    hash: str


def first_hash(ledger_id: str) -> str:
    """The hash before the first row: no two ledgers share it."""
    return hashlib.sha256(f"reelsight ledger 1\n{ledger_id}".encode()).hexdigest()


def body_digest(body: str) -> str:
    """sha256 (hex) of a body's bytes."""
    return hashlib.sha256(body.encode()).hexdigest()


def next_hash(prev: str, digest: str) -> str:
    """The hash of a row from the one before it and its body's digest."""
    return hashlib.sha256(f"reelsight ledger row 1\n{prev}\n{digest}".encode()).hexdigest()


def body_of(
    ledger_id: str, index: int, kind: Kind, serial: str, at: str, operator: str, facts: Any
) -> str:
    """The canonical JSON of a row: sorted names, no spaces, UTF-8."""
    whole = {
        "ledger": ledger_id,
        "index": index,
        "kind": kind,
        "serial": serial,
        "at": at,
        "operator": operator,
        "facts": facts,
    }
    return json.dumps(
        whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def parse_body(body: str) -> dict[str, Any]:
    """What a body says.

    Raises:
        LedgerError: `ledger.bad_row`, it is not what rows are made of.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise LedgerError(f"a row is not JSON: {error}", code="ledger.bad_row") from None
    names = {"ledger", "index", "kind", "serial", "at", "operator", "facts"}
    if not (isinstance(found, dict) and set(found) == names and isinstance(found["facts"], dict)):
        raise LedgerError(f"a row has not the fields {sorted(names)}", code="ledger.bad_row")
    return found


def facts_of(copy: IssuedCopy) -> dict[str, Any]:
    """The facts of an `issued` row."""
    facts = asdict(copy)
    identity, carrier = facts.pop("identity"), facts.pop("carrier")
    identity.pop("encoded")
    return {**facts, **identity, "carrier": carrier["model"], "carrier_version": carrier["version"]}


def copy_of(facts: dict[str, Any]) -> IssuedCopy:
    """The copy that an `issued` row's facts describe.

    Raises:
        LedgerError: `ledger.bad_row`, they describe none.
    """
    try:
        rest = dict(facts)
        identity = Identity(rest.pop("asset"), rest.pop("recipient"), rest.pop("epoch"))
        carrier = Carrier(rest.pop("carrier"), rest.pop("carrier_version"))
        wrong = [name for name in _TEXTS if not isinstance(rest[name], str)]
        if wrong:
            raise TypeError(f"{', '.join(wrong)} must be text")
        return IssuedCopy(identity=identity, carrier=carrier, **rest)
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(
            f"a row describes no copy: {type(error).__name__}: {error}", code="ledger.bad_row"
        ) from None
