from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from reelsight.errors import MarkError
from reelsight.marks.candidates import windows_of
from reelsight.marks.codeword import codeword
from reelsight.marks.keys import Keyring, TenantKey
from reelsight.marks.ledger import Ledger
from reelsight.marks.match import CodeTable, scores, window_scores
from reelsight.marks.policy import Marking
from reelsight.marks.pool import pool
from reelsight.nouns.mark import IssuedCopy
from reelsight.nouns.mark_trace import Trials
from tests.reelsight.marks.made_copies import order, soft_bits

LATER = "2999-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("bits", [64, 96, 128])
def test_scores_are_the_product_with_the_code_matrix(bits: int) -> None:
    rng = np.random.default_rng(1)
    packed = rng.integers(0, 256, (500, bits // 8), dtype=np.uint8)
    soft = rng.standard_normal(bits)
    signs = 2.0 * np.unpackbits(packed, axis=1) - 1
    found = scores(np.ascontiguousarray(packed.T), soft)
    assert found == pytest.approx(signs @ soft, abs=1e-12)
    with pytest.raises(MarkError, match="soft bits for codes"):
        scores(packed.T, soft[:-1])


def test_a_million_codes_are_compared_in_well_under_a_second() -> None:
    codes = np.random.default_rng(1).integers(0, 256, (8, 1_000_000), dtype=np.uint8)
    soft = np.random.default_rng(2).standard_normal(64)
    best = min(_seconds(codes, soft) for _ in range(5))
    assert best < 0.5  # About 0.03 s of one core; of CPU time, as machines are shared.


def _seconds(codes: np.ndarray, soft: np.ndarray) -> float:
    started = time.process_time()
    scores(codes, soft)
    return time.process_time() - started


@pytest.mark.parametrize("segments", [1, 2, 3, 5, 8, 32])
def test_windows_are_sums_over_their_segments(segments: int) -> None:
    rng = np.random.default_rng(segments)
    packed = rng.integers(0, 256, (8, 50), dtype=np.uint8)
    sums = rng.standard_normal((segments, 64))
    table = CodeTable(64, LATER, packed, np.arange(50), {})
    seen = []
    for first, end, found in window_scores(table, sums):
        assert found == pytest.approx(scores(packed, sums[first:end].sum(axis=0)), abs=1e-9)
        seen.append((first, end))
    assert len(set(seen)) == len(seen) == 2 * segments - 1
    assert seen[-1] == (0, segments)
    assert {(g, g + 1) for g in range(segments)} <= set(seen)


def test_rows_that_fit_alike_are_taken_in_the_order_of_the_ledger() -> None:
    packed = np.random.default_rng(3).integers(0, 256, (8, 500), dtype=np.uint8)
    table = CodeTable(64, LATER, packed, np.arange(500), {})
    silent = pool(soft_bits(np.zeros((3, 64))), Marking())
    ((_, fits),) = windows_of(0, silent, table, Trials(500))
    assert [fit.place for fit in fits] == list(range(8))


def test_a_table_holds_the_codes_that_were_issued(ledger: Ledger, keyring: Keyring) -> None:
    issued = [ledger.issue(order(f"r{i}"), "max") for i in range(20)]
    table = CodeTable.of(ledger.copies(), keyring, bits=64, received_at=LATER)
    assert table.indices.tolist() == [one.row.index for one in issued]
    for place, one in enumerate(issued):
        assert table.packed[:, place].tobytes() == one.code.data
        assert (table.signs(place) == one.code.signs).all()


def test_rotating_pads_have_a_code_for_each_segment(ledger: Ledger, keyring: Keyring) -> None:
    one = order("anna", pad="rotating", segment_s=2.0)
    ledger.issue(one, "max")
    ledger.issue(order("eve"), "max")
    table = CodeTable.of(ledger.copies(), keyring, bits=64, received_at=LATER, segment_s=2.0)
    assert len(table) == 1
    for segment in (0, 1, 7):
        code = codeword(keyring.issuing, one.identity, 64, segment)
        assert (table.signs(0, segment) == code.signs).all()
    assert table.left_out == {"its pad is another one": 1}


def test_rows_that_cannot_be_accused_are_left_out_and_counted(
    ledger: Ledger, keyring: Keyring
) -> None:
    clock: Iterator[str] = iter(f"2026-01-0{day}T00:00:00.000000Z" for day in range(1, 8))
    dated = Ledger(ledger.store, keyring, now=lambda: next(clock))
    for name in ("a", "b", "c"):
        dated.issue(order(name), "max")
    dated.issue(order("d", bits=96), "max")
    Ledger(ledger.store, Keyring((TenantKey(bytes(32)),)), lambda: next(clock)).issue(
        order("e"), "max"
    )
    dated.issue(order("f"), "max")

    def table(**rest: object) -> CodeTable:
        base: dict[str, object] = {"bits": 64, "received_at": "2026-01-05T12:00:00.000000Z"}
        return CodeTable.of(dated.copies(), keyring, **(base | rest))  # type: ignore[arg-type]

    assert table().indices.tolist() == [0, 1, 2]
    assert table().left_out == {
        "its code has another length": 1,
        "its tenant key is not here": 1,
        "issued after the suspect was received": 1,
    }
    # A head that somebody kept beats the issuer's clock.
    assert table(known_rows=2).indices.tolist() == [0, 1]

    def wanted(copy: IssuedCopy) -> bool:
        return copy.identity.recipient == "b"

    assert table(wanted=wanted).indices.tolist() == [1]
    assert table(wanted=wanted).left_out["not asked for"] == 4
