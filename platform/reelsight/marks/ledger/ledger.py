"""The ledger: issues copies, notes how they were embedded, and finds them again.

A codeword leaves this module only after its row is committed: a copy that nobody can trace must not
exist. The way back is harmless: a row whose code was never embedded accuses nobody.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from reelsight.errors import LedgerError, MarkError
from reelsight.marks.codeword import Codeword, codeword, opening, serial_of
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger.row import body_of, copy_of, facts_of, parse_body
from reelsight.marks.ledger.store import LedgerStore
from reelsight.marks.policy import CODE_LENGTHS, SHORTEST_SEGMENT_S
from reelsight.marks.times import parse_time, utc_now
from reelsight.nouns.mark import Carrier, Identity, IssuedCopy, Pad, require_name

__all__ = ["Embedding", "Issued", "Ledger", "LedgerRow", "Order"]

_LONGEST_ENCODER = 4096


@dataclass(frozen=True, slots=True)
class Order:
    """A copy that is wanted.

    Attributes:
        identity: Asset, recipient, epoch.
        asset_sha256: sha256 (hex) of the unmarked asset.
        channel: How the copy goes out.
        carrier: Model and version of the mark.
        valid_from: ISO 8601; None for the moment of issue.
        bits: Length of the code.
        pad: `static` or `rotating`.
        segment_s: Length of a segment of a rotating pad, seconds, at least 0.5.
        psnr_db: Where it is known already.
        encoder: Where it is known already.
    """

    identity: Identity
    asset_sha256: str
    channel: str
    carrier: Carrier
    valid_from: str | None = None
    bits: int = 64
    pad: Pad = "static"
    segment_s: float | None = None
    psnr_db: float | None = None
    encoder: str | None = None


@dataclass(frozen=True, slots=True)
class Embedding:
    """What became of a copy when its mark was embedded.

    Attributes:
        output_sha256: sha256 (hex) of the marked file.
        psnr_db: Of it against the asset.
        encoder: How it was encoded, in the encoder's own words.
    """

    output_sha256: str
    psnr_db: float
    encoder: str


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """A row, read.

    Attributes:
        index: Its place.
        hash: Its hash.
        kind: `issued` or `embedded`.
        serial: Of the copy.
        at: When it was written, by the issuer's clock.
        operator: Who wrote it.
        copy: For `issued` rows.
        embedding: For `embedded` rows.
    """

    index: int
    hash: str
    kind: str
    serial: str
    at: str
    operator: str
    copy: IssuedCopy | None
    embedding: Embedding | None


@dataclass(frozen=True, slots=True)
class Issued:
    """A copy that is in the ledger.

    Attributes:
        row: Its row.
        code: What has to be embedded (static pads).
        created: Whether this call wrote the row; False when it was there.
    """

    row: LedgerRow
    code: Codeword
    created: bool


class Ledger:
    """Issued copies in a store.

    Args:
        store: Open; closed by its owner.
        keyring: Tenant keys; needed for issuing alone.
        now: The clock, as `utc_text` writes times.
    """

    def __init__(
        self, store: LedgerStore, keyring: Keyring | None = None, now: Callable[[], str] = utc_now
    ) -> None:
        self.store = store
        self._keyring = keyring
        self._now = now

    def issue(self, order: Order, operator: str) -> Issued:
        """Write a copy into the ledger, then give its code.

        Asking again for the same copy gives the row that is there, so that an issuer that died
        before it heard the answer simply asks again.

        Raises:
            MarkError: The order does not fit, or there is no key.
            LedgerError: `ledger.conflict`, that recipient has a copy of that asset and epoch with
                other facts; or as the store does.
        """
        if self._keyring is None:
            raise MarkError("issuing needs a tenant key", code="mark.no_key")
        _check(order, operator)
        identity = order.identity
        serial, copy, slot = self._order(order)

        def make_body(ledger_id: str, index: int) -> str:
            at = self._now()
            facts = facts_of(replace(copy, valid_from=copy.valid_from or at))
            return body_of(ledger_id, index, "issued", serial, at, operator, facts)

        stored, created = self.store.append(slot, make_body)
        row = _read(stored.index, stored.hash, stored.body)
        if not created and row.copy != replace(copy, valid_from=copy.valid_from or _since(row)):
            raise LedgerError(
                f"{identity.recipient!r} has copy {row.serial} of {identity.asset!r}, epoch "
                f"{identity.epoch}, issued {row.at} with other facts",
                code="ledger.conflict",
                hint="Issue a further copy with the next epoch.",
            )
        return Issued(row, codeword(self._keyring.issuing, identity, order.bits), created)

    def embedded(self, serial: str, embedding: Embedding, operator: str) -> LedgerRow:
        """Note how a copy was embedded; saying the same twice writes one row.

        Raises:
            LedgerError: `ledger.no_copy`, no such serial was issued; or as the store does.
            MarkError: What is to be noted does not fit.
        """
        if self.find(serial) is None:
            raise LedgerError(f"no copy {serial!r} was issued", code="ledger.no_copy")
        require_sha256("output_sha256", embedding.output_sha256)
        _require_psnr(embedding.psnr_db)
        _require_text(operator=operator)
        _require_encoder(embedding.encoder)
        facts = asdict(embedding)

        def make_body(ledger_id: str, index: int) -> str:
            return body_of(ledger_id, index, "embedded", serial, self._now(), operator, facts)

        slot = f"embedded:{serial}:{embedding.output_sha256}"
        stored, _ = self.store.append(slot, make_body)
        return _read(stored.index, stored.hash, stored.body)

    def find(self, serial: str) -> LedgerRow | None:
        """The `issued` row of a serial."""
        stored = self.store.find(f"issued:{serial}")
        return None if stored is None else _read(stored.index, stored.hash, stored.body)

    def row(self, index: int) -> LedgerRow:
        """The row in a place.

        Raises:
            LedgerError: `ledger.bad_row`, there is none or it cannot be read.
        """
        stored = self.store.get(index)
        if stored is None:
            raise LedgerError(f"there is no row {index}", code="ledger.bad_row")
        return _read(stored.index, stored.hash, stored.body)

    def rows(self, start: int = 0) -> Iterator[LedgerRow]:
        """Rows in order.

        Raises:
            LedgerError: `ledger.bad_row`, one cannot be read; `verify_chain` says which.
        """
        for stored in self.store.rows(start):
            yield _read(stored.index, stored.hash, stored.body)

    def copies(self) -> Iterator[tuple[int, str, IssuedCopy]]:
        """Place, time of issue and copy of every `issued` row, as `CodeTable.of` takes them."""
        for row in self.rows():
            if row.copy is not None:
                yield row.index, row.at, row.copy

    def _order(self, order: Order) -> tuple[str, IssuedCopy, str]:
        if self._keyring is None:
            raise MarkError("issuing needs a tenant key", code="mark.no_key")
        key = self._keyring.issuing
        copy = IssuedCopy(
            identity=order.identity,
            asset_sha256=order.asset_sha256,
            channel=order.channel,
            valid_from=parse_time(order.valid_from) if order.valid_from else "",
            bits=order.bits,
            pad=order.pad,
            segment_s=order.segment_s,
            carrier=order.carrier,
            key_id=key.id,
            commitment=opening(key, order.identity).commitment,
            psnr_db=order.psnr_db,
            encoder=order.encoder,
        )
        serial = serial_of(key, order.identity)
        return serial, copy, f"issued:{serial}"


def require_sha256(what: str, text: str) -> None:
    """Refuse what is no sha256 in hex.

    Raises:
        MarkError: It is none.
    """
    with suppress(ValueError):
        if len(bytes.fromhex(text)) == 32 and text == text.lower() and len(text) == 64:
            return
    raise MarkError(f"{what} must be 64 hex digits in lower case, got {text!r}", code="mark.sha256")


def _check(order: Order, operator: str) -> None:
    require_sha256("asset_sha256", order.asset_sha256)
    _require_psnr(order.psnr_db)
    if order.bits not in CODE_LENGTHS:
        raise MarkError(f"a code has {CODE_LENGTHS} bits, not {order.bits!r}", code="mark.bits")
    _require_text(
        channel=order.channel,
        operator=operator,
        carrier=order.carrier.model,
        carrier_version=order.carrier.version,
    )
    if order.encoder is not None:
        _require_encoder(order.encoder)
    if (order.pad == "rotating") != (order.segment_s is not None):
        raise MarkError("a rotating pad, and no other, has segments", code="mark.segment")
    if order.segment_s is not None and not SHORTEST_SEGMENT_S <= order.segment_s < math.inf:
        raise MarkError(
            f"segment_s must be >= {SHORTEST_SEGMENT_S}, got {order.segment_s!r}",
            code="mark.segment",
        )


def _require_text(**names: str) -> None:
    try:
        for name, value in names.items():
            require_name(name.replace("_", " "), value)
    except ValueError as error:
        raise MarkError(str(error)) from None


def _require_encoder(words: str) -> None:
    if len(words) > _LONGEST_ENCODER or not (words.isprintable() and words):
        raise MarkError(f"encoder must be 1..{_LONGEST_ENCODER} printable characters")


def _require_psnr(psnr_db: float | None) -> None:
    if psnr_db is not None and not math.isfinite(psnr_db):
        raise MarkError(f"psnr_db must be finite, got {psnr_db!r}", code="mark.psnr")


def _since(row: LedgerRow) -> str:
    return row.copy.valid_from if row.copy is not None else ""


def _read(index: int, hash_: str, body: str) -> LedgerRow:
    found = parse_body(body)
    facts: dict[str, Any] = found["facts"]
    copy = embedding = None
    if found["kind"] == "issued":
        copy = copy_of(facts)
    elif found["kind"] == "embedded":
        try:
            embedding = Embedding(**facts)
        except TypeError as error:
            raise LedgerError(f"row {index}: {error}", code="ledger.bad_row") from None
    return LedgerRow(
        index=index,
        hash=hash_,
        kind=str(found["kind"]),
        serial=str(found["serial"]),
        at=str(found["at"]),
        operator=str(found["operator"]),
        copy=copy,
        embedding=embedding,
    )
