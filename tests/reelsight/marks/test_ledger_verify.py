"""Ledgers that were tampered with, as one can who owns the file; and what heads show."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reelsight.errors import ConfigError, LedgerError
from reelsight.marks.keys import Keyring, TenantKey
from reelsight.marks.ledger import (
    Embedding,
    Ledger,
    SignedHead,
    chain_proof,
    check_proof,
    open_store,
    parse_head,
    sign_head,
    verify_chain,
)
from reelsight.marks.ledger.row import body_digest, first_hash, next_hash
from reelsight.nouns.mark_trace import LedgerHead
from reelsight.signing import generate_key, public_key
from tests.reelsight.marks.made_copies import order

Tamper = Callable[[sqlite3.Connection], object]


@pytest.fixture
def path(tmp_path: Path, keyring: Keyring) -> Path:
    """A ledger of seven rows."""
    file = tmp_path / "seven.ledger"
    with open_store(str(file), create=True) as store:
        ledger = Ledger(store, keyring)
        for i in range(6):
            row = ledger.issue(order(f"recipient-{i}"), "max").row
        ledger.embedded(row.serial, Embedding("b" * 64, 41.0, "x264"), "max")
    return file


def tampered(path: Path, tamper: Tamper) -> None:
    db = sqlite3.connect(path)
    db.executescript("DROP TRIGGER no_update; DROP TRIGGER no_delete;")
    tamper(db)
    db.commit()
    db.close()


def rechained(db: sqlite3.Connection) -> None:
    """Every hash made anew, as a forger would."""
    (ledger,) = db.execute("SELECT ledger FROM meta").fetchone()
    prev, rows = (
        first_hash(ledger),
        db.execute("SELECT idx, body FROM rows ORDER BY idx").fetchall(),
    )
    db.execute("UPDATE rows SET prev = 'old ' || idx")
    for index, body in rows:
        hash_ = next_hash(prev, body_digest(body))
        db.execute("UPDATE rows SET prev = ?, hash = ? WHERE idx = ?", (prev, hash_, index))
        prev = hash_


@pytest.mark.parametrize(
    ("tamper", "row", "says"),
    [
        (
            "UPDATE rows SET body = replace(body, 'recipient-3', 'recipient-9') WHERE idx = 3",
            3,
            "not that of its content",
        ),
        ("UPDATE rows SET hash = upper(hash) WHERE idx = 2", 2, "not that of its content"),
        ("UPDATE rows SET body = x'ff00fe' WHERE idx = 3", 3, "not that of its content"),
        ("UPDATE rows SET body = CAST(x'ff00fe' AS TEXT) WHERE idx = 3", 3, "not that of"),
        ("DELETE FROM rows WHERE idx = 4", 4, "a row 4 is missing: 5 follows"),
        ("DELETE FROM rows WHERE idx = 0", 0, "a row 0 is missing"),
        ("UPDATE rows SET slot = 'issued:X' WHERE idx = 1", 1, "filed under"),
        ("UPDATE meta SET ledger = 'other'", 0, "previous hash"),
    ],
)
def test_the_first_bad_row_is_named(path: Path, tamper: str, row: int, says: str) -> None:
    tampered(path, lambda db: db.execute(tamper))
    with open_store(str(path)) as store:
        found = verify_chain(store)
    assert found.bad_row == row
    assert says in (found.problem or "")
    assert found.head.rows == row


def test_rows_that_change_places_are_seen_even_with_new_hashes(path: Path) -> None:
    def swap(db: sqlite3.Connection) -> None:
        db.execute("UPDATE rows SET idx = -1 WHERE idx = 2")
        db.execute("UPDATE rows SET idx = 2 WHERE idx = 3")
        db.execute("UPDATE rows SET idx = 3 WHERE idx = -1")
        rechained(db)

    tampered(path, swap)
    with open_store(str(path)) as store:
        found = verify_chain(store)
    assert (found.bad_row, found.problem and "it says it is row 3" in found.problem) == (2, True)


def test_rows_cut_off_the_end_are_seen_by_a_kept_head_alone(path: Path) -> None:
    with open_store(str(path)) as store:
        kept = store.head()
    tampered(path, lambda db: db.execute("DELETE FROM rows WHERE idx >= 5"))
    with open_store(str(path)) as store:
        assert verify_chain(store).sound  # The limit of a chain without a head.
        found = verify_chain(store, [kept])
        assert found.bad_row == 5
        assert found.problem == "the chain ends after 5 rows; a kept head says that 7 were there"
        # A head of before the cut agrees: what came after it is anybody's word.
        assert verify_chain(store, [verify_chain(store).head]).sound


@pytest.mark.parametrize("kept_rows", [4, 7])
def test_a_history_written_anew_is_seen_by_a_kept_head(path: Path, kept_rows: int) -> None:
    with open_store(str(path)) as store:
        rows = list(store.rows())
        kept = replace(store.head(), rows=kept_rows, hash=rows[kept_rows - 1].hash)

    def rewrite(db: sqlite3.Connection) -> None:
        db.execute("UPDATE rows SET body = replace(body, 'recipient-3', 'recipient-9')")
        rechained(db)

    tampered(path, rewrite)
    with open_store(str(path)) as store:
        assert verify_chain(store).sound
        found = verify_chain(store, [kept])
    assert found.bad_row == kept_rows
    assert "rewritten" in (found.problem or "")


def test_a_head_of_another_ledger_is_refused(path: Path) -> None:
    with open_store(str(path)) as store:
        found = verify_chain(store, [replace(store.head(), ledger="other")])
    assert "another ledger" in (found.problem or "")


def test_commitments_are_those_of_the_key(path: Path, keyring: Keyring) -> None:
    with open_store(str(path)) as store:
        found = verify_chain(store, keyring=keyring)
        assert (found.sound, found.commitments, found.unknown_keys) == (True, 6, 0)
        stranger = Keyring((TenantKey(bytes(32)),))
        found = verify_chain(store, keyring=stranger)
        assert (found.sound, found.commitments, found.unknown_keys) == (True, 0, 6)

    def accuse(db: sqlite3.Connection) -> None:
        # One recipient's row is given another's commitment, and every hash is made anew.
        bodies = [b for (b,) in db.execute("SELECT body FROM rows ORDER BY idx LIMIT 2")]
        first, second = (b.split('"commitment":"')[1][:64] for b in bodies)
        db.execute("UPDATE rows SET body = replace(body, ?, ?) WHERE idx = 1", (second, first))
        rechained(db)

    tampered(path, accuse)
    with open_store(str(path)) as store:
        assert verify_chain(store).sound
        found = verify_chain(store, keyring=keyring)
    assert (found.bad_row, found.commitments) == (1, 1)
    assert "commitment" in (found.problem or "")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("commitment", "\N{LATIN SMALL LETTER E WITH ACUTE}", "commitment is not that"),
        ("commitment", None, "commitment must be text"),
        ("key_id", [], "key_id must be text"),
        ("epoch", "1", "describes no copy"),
    ],
)
def test_a_row_of_odd_values_is_named(
    path: Path, keyring: Keyring, name: str, value: object, says: str
) -> None:
    def spoil(db: sqlite3.Connection) -> None:
        (body,) = db.execute("SELECT body FROM rows WHERE idx = 2").fetchone()
        said = json.loads(body)
        said["facts"][name] = value
        db.execute("UPDATE rows SET body = ? WHERE idx = 2", (json.dumps(said),))
        rechained(db)

    tampered(path, spoil)
    with open_store(str(path)) as store:
        found = verify_chain(store, keyring=keyring)
    assert found.bad_row == 2
    assert says in (found.problem or "")


def test_a_row_is_proven_without_showing_others(path: Path) -> None:
    with open_store(str(path)) as store:
        head = store.head()
        proof = chain_proof(store, 2, head)
        assert check_proof(proof)
        assert len(proof.later) == 4
        assert "recipient-2" in proof.body
        assert "recipient-3" not in str(proof.later)
        last = chain_proof(store, 6, head)
        assert check_proof(last)
        assert last.later == ()
        early = replace(head, rows=4, hash=list(store.rows())[3].hash)
        assert check_proof(chain_proof(store, 3, early))
        with pytest.raises(LedgerError, match="no row 4"):
            chain_proof(store, 4, early)
        with pytest.raises(LedgerError, match="does not lead"):
            chain_proof(store, 2, replace(head, hash="0" * 64))
    for wrong in (
        replace(proof, body=proof.body.replace("recipient-2", "recipient-9")),
        replace(proof, prev="0" * 64),
        replace(proof, later=proof.later[:-1]),
        replace(proof, later=(*proof.later, "0" * 64)),
        replace(proof, index=1),
    ):
        assert not check_proof(wrong)


def test_heads_are_signed_and_read_again() -> None:
    key = generate_key()
    head = LedgerHead("id", 7, "a" * 64, "2026-11-21T12:00:00.000000Z")
    signed = parse_head(sign_head(head, key).document(), "here")
    assert signed.head == head
    trusted = (public_key(generate_key()), public_key(key))
    assert signed.require_signed(trusted) == trusted[1]
    for wrong in (
        replace(signed, head=replace(head, rows=8)),
        replace(signed, signature=None),
        replace(signed, signature="rubbish"),
    ):
        with pytest.raises(LedgerError, match="no key that is trusted"):
            wrong.require_signed(trusted)
    with pytest.raises(LedgerError):
        signed.require_signed(trusted[:1])


@pytest.mark.parametrize(
    "text",
    [
        *("", "{}", '{"format": "x", "head": {}}', "[]", "null", "[" * 100_000),
        SignedHead(LedgerHead("id", 7, "a" * 64, "")).document().replace("}}", '},"signature":1}'),
        SignedHead(LedgerHead("id", -1, "a" * 64, "")).document(),
    ],
    ids=range(8),
)
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="here is no head"):
        parse_head(text, "here")


def test_a_head_without_rows_is_one(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "l"), create=True) as store:
        head = store.head()
        assert (head.rows, head.hash) == (0, first_hash(head.ledger))
        assert verify_chain(store, [head]).sound
        assert parse_head(SignedHead(head).document(), "x").head == head
