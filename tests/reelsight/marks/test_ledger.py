from __future__ import annotations

import sqlite3
import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from reelsight.errors import LedgerBusy, LedgerError, MarkError
from reelsight.marks.codeword import codeword, opening
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger import Embedding, Ledger, open_store, verify_chain
from reelsight.nouns.mark import Identity
from tests.reelsight.marks.made_copies import ASSET, order


def test_a_copy_is_issued_found_and_has_a_code_that_the_key_gives_again(
    place: str, keyring: Keyring
) -> None:
    with open_store(place, create=True) as store:
        ledger = Ledger(store, keyring, now=lambda: "2026-11-21T12:00:00.000000Z")
        issued = ledger.issue(order("anna", psnr_db=41.5, encoder="x264 crf 18"), "max")
        assert issued.created
        assert issued.row.index == 0
        assert issued.code == codeword(keyring.issuing, Identity("film", "anna"), 64)
        found = ledger.find(issued.row.serial)
        assert found == issued.row == ledger.row(0)
        with pytest.raises(LedgerError, match="no row 1"):
            ledger.row(1)
        assert found is not None
        assert found.copy is not None
        assert (found.copy.asset_sha256, found.copy.channel, found.operator) == (
            ASSET,
            "screener",
            "max",
        )
        assert (found.copy.psnr_db, found.copy.encoder) == (41.5, "x264 crf 18")
        assert found.copy.valid_from == found.at == "2026-11-21T12:00:00.000000Z"
        assert opening(keyring.issuing, found.copy.identity).commits_to(found.copy.commitment)


def test_the_same_order_gives_the_same_row_and_another_one_a_conflict(
    place: str, keyring: Keyring
) -> None:
    with open_store(place, create=True) as store:
        ledger = Ledger(store, keyring)
        first = ledger.issue(order("anna"), "max")
        again = ledger.issue(order("anna"), "eve")
        assert (again.created, again.row, again.code) == (False, first.row, first.code)
        with pytest.raises(LedgerError, match="with other facts") as caught:
            ledger.issue(order("anna", psnr_db=40.0), "max")
        assert caught.value.code == "ledger.conflict"
        second = ledger.issue(order("anna", epoch=1), "max")
        assert second.row.serial != first.row.serial
        assert second.code != first.code
        assert verify_chain(store, keyring=keyring).head.rows == 2


def test_an_embedding_is_a_row_of_its_own(place: str, keyring: Keyring) -> None:
    with open_store(place, create=True) as store:
        ledger = Ledger(store, keyring)
        serial = ledger.issue(order("anna"), "max").row.serial
        made = Embedding("b" * 64, 41.2, "x264 crf 18")
        row = ledger.embedded(serial, made, "max")
        assert (row.kind, row.embedding, row.index) == ("embedded", made, 1)
        assert ledger.embedded(serial, made, "max") == row
        with pytest.raises(LedgerError, match="no copy 'X' was issued"):
            ledger.embedded("X", made, "max")
        with pytest.raises(MarkError, match="output_sha256"):
            ledger.embedded(serial, Embedding("B" * 64, 41.2, "x264"), "max")
        with pytest.raises(MarkError, match="operator"):
            ledger.embedded(serial, made, "max\n")
        for words in ("", "a\nb", "\ud800", "x" * 5000):
            with pytest.raises(MarkError, match="encoder"):
                ledger.embedded(serial, replace(made, encoder=words), "max")
        assert verify_chain(store).head.rows == 2
        assert [copy.identity.recipient for _, _, copy in ledger.copies()] == ["anna"]


def test_rows_can_be_read_while_others_are_added(place: str, keyring: Keyring) -> None:
    with open_store(place, create=True) as store:
        ledger = Ledger(store, keyring)
        for name in ("a", "b"):
            ledger.issue(order(name), "max")
        seen = []
        for row in ledger.rows():
            seen.append(row.index)
            if row.index == 0:
                ledger.issue(order("c"), "max")
        assert seen[:2] == [0, 1]
    # What was added in between was committed at once, not with the reading.
    with open_store(place) as store:
        assert store.head().rows == 3


def test_neither_store_lets_a_row_be_changed_or_deleted(place: str, keyring: Keyring) -> None:
    with open_store(place, create=True) as store:
        Ledger(store, keyring).issue(order("anna"), "max")
        table = "reelsight_ledger" if "://" in place else "rows"
        for statement in (f"UPDATE {table} SET body = 'x'", f"DELETE FROM {table}"):
            with pytest.raises(Exception, match="the ledger only grows"):
                store._db.execute(statement)  # type: ignore[attr-defined]


def test_an_issuer_that_waits_too_long_is_told_so(place: str, keyring: Keyring) -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow_clock() -> str:
        inside.set()
        assert leave.wait(60)
        return "2026-11-21T12:00:00.000000Z"

    def hold() -> None:
        with open_store(place, create=True) as store:
            Ledger(store, keyring, slow_clock).issue(order("anna"), "max")

    with open_store(place, create=True):
        pass
    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert inside.wait(60)
        with open_store(place, wait_s=30) as reader:
            assert reader.head().rows == 0
        store = open_store(place, create=True, wait_s=0.05)
        with store, pytest.raises(LedgerBusy) as caught:
            Ledger(store, keyring).issue(order("eve"), "max")
        assert caught.value.retryable
    finally:
        leave.set()
        holder.join()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"asset_sha256": "A" * 64}, "asset_sha256"),
        ({"channel": ""}, "channel"),
        ({"channel": "a\nb"}, "printable"),
        ({"bits": 32}, "bits"),
        ({"psnr_db": float("nan")}, "psnr_db"),
        ({"pad": "rotating"}, "segments"),
        ({"pad": "rotating", "segment_s": -1.0}, "segment_s"),
        ({"pad": "rotating", "segment_s": 1e-9}, "segment_s"),
        ({"pad": "rotating", "segment_s": float("inf")}, "segment_s"),
        ({"encoder": "x" * 5000}, "encoder"),
        ({"valid_from": "soon"}, "'soon' is no time"),
    ],
)
def test_orders_that_do_not_fit(ledger: Ledger, wrong: dict[str, object], says: str) -> None:
    with pytest.raises(MarkError, match=says):
        ledger.issue(replace(order("anna"), **wrong), "max")  # type: ignore[arg-type]
    assert ledger.store.head().rows == 0


def test_issuing_needs_a_key(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "l"), create=True)
    with store, pytest.raises(MarkError, match="needs a tenant key"):
        Ledger(store).issue(order("anna"), "max")


def test_no_code_is_in_the_file_and_only_its_owner_can_read_it(
    tmp_path: Path, keyring: Keyring
) -> None:
    path = tmp_path / "deep" / "marks.ledger"
    with open_store(str(path), create=True) as store:
        issued = Ledger(store, keyring).issue(order("anna"), "max")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    data = path.read_bytes()
    for secret in (issued.code.data, issued.code.data.hex().encode(), bytes(range(32))):
        assert secret not in data


def test_ledgers_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger at") as caught:
        open_store(str(tmp_path / "none"))
    assert caught.value.code == "ledger.missing"
    (tmp_path / "text").write_text("x" * 5000)
    with pytest.raises(LedgerError, match="not a database"):
        open_store(str(tmp_path / "text"))
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(LedgerError, match="no such table"):
        open_store(str(tmp_path / "other.db"))
    with pytest.raises(LedgerError, match="mysql URL"):
        open_store("mysql://x")


def test_a_postgres_password_is_in_no_message(postgres_url: str) -> None:
    with pytest.raises(LedgerError) as caught:
        open_store("postgresql://me:s3cret@127.0.0.1:1/db?connect_timeout=2")
    assert "s3cret" not in caught.value.message
    with pytest.raises(LedgerError, match="no ledger at"):
        open_store(postgres_url)


def test_postgres_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.delitem(sys.modules, "reelsight.marks.ledger.postgres_store", raising=False)
    with pytest.raises(LedgerError, match="psycopg") as caught:
        open_store("postgresql://nowhere")
    assert caught.value.code == "ledger.no_driver"
