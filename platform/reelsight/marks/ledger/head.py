"""Heads of the ledger as documents: kept by somebody else, they show what was cut off.

A head says how many rows there were and what the last hash was. Signed, it also says who said so.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from reelsight.errors import ConfigError, LedgerError
from reelsight.nouns.mark_trace import LedgerHead
from reelsight.signing import public_key, sign, signer

__all__ = ["SignedHead", "head_document", "parse_head", "sign_head"]

_FORMAT = "reelsight-ledger-head/1"


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A head and who vouches for it.

    Attributes:
        head: What the ledger was.
        signature: base64, over `head_document`; None for a head without one.
        key: The key that is said to have signed, `ed25519:BASE64`.
    """

    head: LedgerHead
    signature: str | None = None
    key: str | None = None

    def document(self) -> str:
        """JSON, as `parse_head` reads it; one line and a newline."""
        whole: dict[str, object] = {"format": _FORMAT, "head": asdict(self.head)}
        if self.signature is not None:
            whole |= {"signature": self.signature, "key": self.key}
        return json.dumps(whole, sort_keys=True) + "\n"

    def require_signed(self, trusted: tuple[str, ...]) -> str:
        """The trusted key that signed.

        Raises:
            LedgerError: `ledger.bad_head`, none did.
            ConfigError: A trusted key is malformed.
        """
        signature = (self.signature or "").encode()
        found = signer(head_document(self.head), signature, trusted) if signature else None
        if found is None:
            raise LedgerError(
                f"the head of {self.head.rows} rows is signed by no key that is trusted here",
                code="ledger.bad_head",
                hint="Ask who keeps the heads; do not sign this ledger's head before you know.",
            )
        return found


def head_document(head: LedgerHead) -> bytes:
    """The bytes that are signed: canonical JSON, with its format so that they mean nothing else."""
    whole = {"format": _FORMAT, **asdict(head)}
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def sign_head(head: LedgerHead, private: bytes) -> SignedHead:
    """Vouch for a head.

    Args:
        head: What the ledger is.
        private: Ed25519 key, PEM.

    Raises:
        ConfigError: That is no such key.
    """
    signature = sign(head_document(head), private).decode().strip()
    return SignedHead(head, signature, public_key(private))


def parse_head(text: str, where: str) -> SignedHead:
    """A head that was kept.

    Args:
        text: As `SignedHead.document` wrote it.
        where: Named in errors.

    Raises:
        ConfigError: It is none.
    """
    try:
        found = json.loads(text)
        if found["format"] != _FORMAT:
            raise ValueError(f"its format is {found['format']!r}")
        head = LedgerHead(**found["head"])
        if not isinstance(head.rows, int) or head.rows < 0 or len(head.hash) != 64:
            raise ValueError("it has no rows or no hash")
        signature, key = found.get("signature"), found.get("key")
        if not (isinstance(signature, str | None) and isinstance(key, str | None)):
            raise ValueError("its signature and key are no text")
        return SignedHead(head, signature, key)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{where} is no head of a ledger: {error}", code="config.head") from None
