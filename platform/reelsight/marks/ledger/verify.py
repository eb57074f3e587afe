"""Verifying a ledger: the chain from its first row on, heads that were kept, and commitments.

The chain alone shows that no row was changed, left out, or put between others. It cannot show that
rows were cut off its end, nor that the whole was written anew: for that it is compared with heads
that somebody else kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from reelsight.errors import LedgerError
from reelsight.marks.codeword import opening, serial_of
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger.row import (
    StoredRow,
    body_digest,
    copy_of,
    first_hash,
    next_hash,
    parse_body,
)
from reelsight.marks.ledger.store import LedgerStore
from reelsight.nouns.mark_trace import ChainProof, LedgerHead

__all__ = ["Verification", "chain_proof", "check_proof", "verify_chain"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        head: What the ledger is, as far as it is sound.
        bad_row: Place of the first row that is not; None where all are. The number of rows where
            the chain ends too early.
        problem: What is wrong with it.
        commitments: Rows whose codes were derived again and fit.
        unknown_keys: Rows whose tenant key is not here, where codes were derived.
    """

    head: LedgerHead
    bad_row: int | None = None
    problem: str | None = None
    commitments: int = 0
    unknown_keys: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.bad_row is None


def verify_chain(
    store: LedgerStore, heads: Sequence[LedgerHead] = (), keyring: Keyring | None = None
) -> Verification:
    """Walk the chain; stops at the first bad row.

    Args:
        store: The ledger.
        heads: Kept elsewhere, in any order; their signatures are the caller's business.
        keyring: Where given, the code of every row is derived again and compared with the
            commitment that the row holds.

    Raises:
        LedgerError: The store cannot be read.
    """
    now = store.head()
    prev, rows, fit, unknown = first_hash(now.ledger), 0, 0, 0
    wanted = {head.rows: head for head in heads}

    def bad(problem: str) -> Verification:
        return Verification(LedgerHead(now.ledger, rows, prev, now.at), rows, problem, fit, unknown)

    for head in heads:
        if head.ledger != now.ledger or wanted[head.rows].hash != head.hash:
            return bad(f"a head is of another ledger or history: {head.rows} rows, {head.ledger}")
    for row in store.rows():
        problem = _row_problem(row, rows, prev, now.ledger)
        if problem is None and keyring is not None:
            found = _code_problem(row, keyring)
            unknown += found == _UNKNOWN
            fit += found is None
            problem = found if found not in (None, _UNKNOWN, _NO_COPY) else None
        if problem is None and rows in wanted and wanted[rows].hash != prev:
            problem = f"the kept head of {rows} rows has another hash: rows before were rewritten"
        if problem is not None:
            return bad(problem)
        prev, rows = row.hash, rows + 1
    if rows in wanted and wanted[rows].hash != prev:
        return bad(f"the kept head of {rows} rows has another hash: rows before were rewritten")
    if wanted and max(wanted) > rows:
        return bad(
            f"the chain ends after {rows} rows; a kept head says that {max(wanted)} were there"
        )
    return Verification(LedgerHead(now.ledger, rows, prev, now.at), None, None, fit, unknown)


def chain_proof(store: LedgerStore, index: int, head: LedgerHead) -> ChainProof:
    """That row `index` belongs to the ledger with that head.

    Raises:
        LedgerError: `ledger.bad_proof`, the rows from there on do not lead to the head.
    """
    later = []
    with closing(store.rows(index)) as rows:
        row = next(rows, None)
        if row is None or row.index != index or index >= head.rows:
            raise LedgerError(
                f"no row {index} below a head of {head.rows}", code="ledger.bad_proof"
            )
        for following in rows:
            if following.index >= head.rows:
                break
            later.append(body_digest(following.body))
    proof = ChainProof(index, row.prev, row.body, tuple(later), head)
    if not check_proof(proof):
        raise LedgerError(f"row {index} does not lead to the head", code="ledger.bad_proof")
    return proof


def check_proof(proof: ChainProof) -> bool:
    """Whether a row leads to its head: nothing but hashes is computed."""
    found = next_hash(proof.prev, body_digest(proof.body))
    for digest in proof.later:
        found = next_hash(found, digest)
    ends = proof.index + 1 + len(proof.later) == proof.head.rows
    return ends and found == proof.head.hash


_UNKNOWN = "its tenant key is not here"
_NO_COPY = "it is no copy"


def _row_problem(row: StoredRow, index: int, prev: str, ledger: str) -> str | None:
    if row.index != index:
        return f"a row {index} is missing: {row.index} follows"
    if row.prev != prev:
        return "its previous hash is not the hash of the row before"
    if next_hash(row.prev, body_digest(row.body)) != row.hash:
        return "its hash is not that of its content"
    try:
        said = parse_body(row.body)
        if said["kind"] == "issued":
            copy_of(said["facts"])
    except LedgerError as error:
        return error.message
    if (said["ledger"], said["index"]) != (ledger, index):
        return f"it says it is row {said['index']} of ledger {said['ledger']}"
    slot = f"{said['kind']}:{said['serial']}"
    if said["kind"] == "embedded":
        slot += f":{said['facts'].get('output_sha256')}"
    return None if row.slot == slot else f"it is filed under {row.slot!r} and says {slot!r}"


def _code_problem(row: StoredRow, keyring: Keyring) -> str | None:
    said = parse_body(row.body)
    if said["kind"] != "issued":
        return _NO_COPY
    copy = copy_of(said["facts"])
    key = keyring.get(copy.key_id)
    if key is None:
        return _UNKNOWN
    if not opening(key, copy.identity).commits_to(copy.commitment):
        return "its commitment is not that of the code that the tenant key gives"
    if serial_of(key, copy.identity) != said["serial"]:
        return "its serial is not that of its identity under the tenant key"
    return None
