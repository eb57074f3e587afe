"""The ledger: who got which copy, as rows that can be added to and never changed unseen."""

from reelsight.marks.ledger.head import SignedHead, head_document, parse_head, sign_head
from reelsight.marks.ledger.ledger import Embedding, Issued, Ledger, LedgerRow, Order
from reelsight.marks.ledger.store import LedgerStore, open_store
from reelsight.marks.ledger.verify import Verification, chain_proof, check_proof, verify_chain

__all__ = [
    "Embedding",
    "Issued",
    "Ledger",
    "LedgerRow",
    "LedgerStore",
    "Order",
    "SignedHead",
    "Verification",
    "chain_proof",
    "check_proof",
    "head_document",
    "open_store",
    "parse_head",
    "sign_head",
    "verify_chain",
]
