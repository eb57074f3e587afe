"""`reelsight mark` and `reelsight ledger` as a person uses them."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def run(*args: str | Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "reelsight.cli.app", *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def answer(*args: str | Path) -> dict[str, Any]:
    return dict(json.loads(run(*args, "--json")))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tenant key, and an asset."""
    made = answer("mark", "keygen", tmp_path / "tenant.key")
    assert len(made["id"]) == 16
    assert stat.S_IMODE((tmp_path / "tenant.key").stat().st_mode) == 0o600
    monkeypatch.setenv("REELSIGHT_MARKS__KEY_FILE", str(tmp_path / "tenant.key"))
    monkeypatch.setenv("REELSIGHT_MARKS__LEDGER", str(tmp_path / "marks.ledger"))
    (tmp_path / "film.mp4").write_bytes(b"film")
    return tmp_path


def issue(home: Path, recipient: str, *more: str | Path) -> tuple[str | Path, ...]:
    return (
        *("mark", "issue", "--asset", "film", "--asset-file", home / "film.mp4"),
        *("--recipient", recipient, "--carrier", "reelmark@1", *more),
    )


def test_issue_list_verify_and_heads(home: Path) -> None:
    code_file = home / "code"
    first = answer(*issue(home, "anna", "--code-file", code_file, "--psnr-db", "41.5"))
    assert (first["row"], first["created"]) == (0, True)
    assert len(bytes.fromhex(code_file.read_text())) == 8
    assert stat.S_IMODE(code_file.stat().st_mode) == 0o600
    assert code_file.read_text().strip() not in json.dumps(first)
    assert "exists" in run(*issue(home, "eve", "--code-file", code_file), code=2)
    again = answer(*issue(home, "anna", "--psnr-db", "41.5"))
    assert (again["serial"], again["created"]) == (first["serial"], False)
    run("engine", "keygen", home / "sign.key")
    public = answer("engine", "keygen", home / "sign2.key")["public"]
    run("ledger", "head", "-o", home / "head.json", "--sign-with", home / "sign2.key")
    answer(*issue(home, "eve"))

    rows = [json.loads(line) for line in run("ledger", "list", "--json").splitlines()]
    assert [(r["recipient"], r["psnr_db"]) for r in rows] == [("anna", 41.5), ("eve", None)]
    assert len(run("ledger", "list", "--recipient", "eve", "--json").splitlines()) == 1
    assert "anna" in run("ledger", "list")

    kept = ("--head", home / "head.json", "--trusted-key", public)
    found = answer("ledger", "verify", "--codes", *kept)
    assert (found["sound"], found["rows"], found["heads"], found["commitments"]) == (True, 2, 1, 2)
    assert "not be seen" in run("ledger", "verify")
    assert "wants --head" in run("ledger", "verify", "--trusted-key", public, code=2)

    db = sqlite3.connect(home / "marks.ledger")
    db.executescript("DROP TRIGGER no_delete; DELETE FROM rows;")
    db.close()
    told = run("ledger", "verify", *kept, code=1)
    assert "BROKEN at row 0" in told
    assert "a kept head says that 1 were there" in told


def test_a_changed_row_is_named(home: Path) -> None:
    for name in ("anna", "eve", "max"):
        run(*issue(home, name))
    db = sqlite3.connect(home / "marks.ledger")
    db.executescript(
        "DROP TRIGGER no_update;UPDATE rows SET body = replace(body, 'eve', 'ann') WHERE idx = 1;"
    )
    db.close()
    assert "BROKEN at row 1: its hash is not that of its content" in run("ledger", "verify", code=1)
    assert "ledger.broken" in run("ledger", "head", code=3)


@pytest.mark.parametrize(
    ("wrong", "code", "says"),
    [
        (("--asset-sha256", "x"), 2, "config.conflict"),
        (("--carrier", "reelmark"), 2, "MODEL@VERSION"),
        (("--recipient", ""), 2, "recipient must have"),
        (("--valid-from", "soon"), 2, "mark.time"),
        (("--asset-file", "none.mp4"), 2, "no asset at"),
    ],
)
def test_orders_that_are_wrong(home: Path, wrong: tuple[str, ...], code: int, says: str) -> None:
    told = run(*issue(home, "anna"), *wrong, code=code)
    assert says in told
    assert not (home / "marks.ledger").exists()


def test_a_key_that_is_open_or_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot write" in run("mark", "keygen", home / "tenant.key", code=2)
    (home / "tenant.key").chmod(0o644)
    assert "config.mark_key_open" in run(*issue(home, "anna"), code=2)
    monkeypatch.delenv("REELSIGHT_MARKS__KEY_FILE")
    assert "config.no_mark_key" in run(*issue(home, "anna"), code=2)
    assert "ledger.missing" in run("ledger", "verify", code=3)
