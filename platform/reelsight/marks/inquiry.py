"""An inquiry: a ledger that was walked, the codes of whoever can be accused, a Tracer over both.

Every door that compares soft bits with a ledger comes through here, so that none can leave out the
walk or take in a row that it should not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reelsight.errors import LedgerError
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger import Ledger, LedgerStore, SignedHead, verify_chain
from reelsight.marks.match import LATE, CodeTable
from reelsight.marks.policy import Marking
from reelsight.marks.tracing import Tracer
from reelsight.nouns.mark import Carrier, IssuedCopy
from reelsight.nouns.mark_trace import LedgerHead

__all__ = ["LATE", "Inquiry", "code_table", "open_tracer", "sound_head"]


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Which copies a suspect is compared with.

    Attributes:
        carrier: The pair that read it: copies of others cannot be told by it.
        bits: Length of the codes that it reads.
        received_at: When the suspect came in, as `utc_text` writes it. Later copies are out.
        asset: Copies of this asset alone; None for all.
        segment_s: Length of a segment of rotating pads, seconds; None for static codes.
    """

    carrier: Carrier
    bits: int
    received_at: str
    asset: str | None = None
    segment_s: float | None = None

    def wants(self, copy: IssuedCopy) -> bool:
        """Whether a copy is compared. Codes are not looked at."""
        named = self.asset is None or copy.identity.asset == self.asset
        return named and copy.carrier == self.carrier


def sound_head(store: LedgerStore, kept: Sequence[LedgerHead] = ()) -> SignedHead:
    """The ledger's head, after its whole chain was walked.

    Args:
        store: The ledger.
        kept: Heads of it that were kept elsewhere.

    Raises:
        LedgerError: `ledger.broken`: nobody is accused by a ledger that was changed.
    """
    found = verify_chain(store, list(kept))
    if not found.sound:
        raise LedgerError(
            f"row {found.bad_row}: {found.problem}; nobody is accused by a ledger that was changed",
            code="ledger.broken",
        )
    return SignedHead(found.head)


def open_tracer(
    store: LedgerStore, keyring: Keyring, marking: Marking, head: SignedHead, asked: Inquiry
) -> Tracer:
    """What compares suspects of one inquiry.

    Args:
        store: The ledger.
        keyring: Tenant keys.
        marking: Limits and how to pool.
        head: As `sound_head` found it.
        asked: Which copies are compared.

    Raises:
        MarkError: As `CodeTable.of`.
        LedgerError: The ledger cannot be read.
    """
    table = code_table(store, keyring, head, asked)
    return Tracer(Ledger(store), keyring, table, head, marking)


def code_table(store: LedgerStore, keyring: Keyring, head: SignedHead, asked: Inquiry) -> CodeTable:
    """The codes of the copies that an inquiry compares; args and errors as of `open_tracer`."""
    return CodeTable.of(
        Ledger(store).copies(),
        keyring,
        bits=asked.bits,
        received_at=asked.received_at,
        known_rows=head.head.rows,
        wanted=asked.wants,
        segment_s=asked.segment_s,
    )
