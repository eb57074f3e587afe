"""Issuers that are killed: nothing that was told is lost, nothing is half there, one chain."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from reelsight.marks.keys import Keyring
from reelsight.marks.ledger import Ledger, open_store, verify_chain
from tests.reelsight.marks.made_copies import order

ROOT = Path(__file__).parents[3]


@contextmanager
def issuer(place: str, point: str, recipient: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.reelsight.marks.issuing_child", place, point, recipient]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@pytest.mark.parametrize(
    ("point", "there"), [("before insert", False), ("after insert", False), ("committed", True)]
)
def test_an_issuer_killed_at_a_point(place: str, point: str, there: bool, keyring: Keyring) -> None:
    with open_store(place, create=True) as store:
        Ledger(store, keyring).issue(order("before"), "test")
    with issuer(place, point, "victim") as child:
        assert said(child) == f"at {point}"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    with open_store(place, create=True) as store:
        ledger = Ledger(store, keyring)
        assert [r.copy.identity.recipient for r in ledger.rows() if r.copy] == (
            ["before", "victim"] if there else ["before"]
        )
        assert verify_chain(store, keyring=keyring).sound
        # Whoever asks again gets one copy, in the place where it was or behind the last one.
        again = ledger.issue(order("victim"), "test")
        assert (again.created, again.row.index) == (not there, 1)
        assert ledger.issue(order("after"), "test").row.index == 2
        assert verify_chain(store, keyring=keyring).sound


def test_a_waiting_issuer_goes_on_when_the_one_before_it_is_killed(
    place: str, keyring: Keyring
) -> None:
    with (
        issuer(place, "after insert", "first") as first,
        issuer(place, "committed", "second") as next_,
    ):
        assert said(first) == "at after insert"
        first.kill()
        assert said(next_) == "at committed"
    with open_store(place) as store:
        assert [row.operator for row in Ledger(store).rows()] == ["child"]
        assert verify_chain(store, keyring=keyring).head.rows == 1


def test_issuers_at_once_and_killed_make_one_chain(place: str, keyring: Keyring) -> None:
    told: list[str] = []
    with (
        issuer(place, "storm", "a") as a,
        issuer(place, "storm", "b") as b,
        issuer(place, "storm", "c") as c,
    ):
        # Each is killed in the middle of whatever it does once it has told some serials.
        for child, count in ((a, 5), (b, 12), (c, 20)):
            told += [said(child) for _ in range(count)]
            child.kill()
            assert child.stdout is not None
            # What is in the pipe was told too; the last line may be cut.
            told += [line.strip() for line in child.stdout if line.endswith("\n")]
    with open_store(place) as store:
        found = verify_chain(store, keyring=keyring)
        assert found.sound, found.problem
        rows = list(Ledger(store).rows())
        serials = [row.serial for row in rows]
        assert len(told) >= 37
        assert set(told) <= set(serials)
        assert len(set(serials)) == len(serials) == found.head.rows
        # No more than what each was about to tell when it died.
        assert len(serials) <= len(told) + 3
