"""`reelsight mark embed` and `mark trace` as a person uses them, on real files."""

from __future__ import annotations

import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from reelsight.marks.evidence import parse_trace, trace_signer
from tests.made_films import Film, write_film
from tests.reelsight.cli.test_mark_commands import answer, run
from tests.reference_pair import write_pair

FILM = Film(frames=48, width=426, height=240, audio=True)
FAST = ("--preset", "veryfast", "--crf", "23", "--strength", "36")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tenant key, a pair, and an asset."""
    run("mark", "keygen", tmp_path / "tenant.key")
    monkeypatch.setenv("REELSIGHT_MARKS__KEY_FILE", str(tmp_path / "tenant.key"))
    monkeypatch.setenv("REELSIGHT_MARKS__LEDGER", str(tmp_path / "marks.ledger"))
    monkeypatch.setenv("REELSIGHT_MARKS__PAIR", str(write_pair(tmp_path / "pair")))
    write_film(tmp_path / "film.mp4", FILM)
    return tmp_path


def issue(home: Path, recipient: str, *more: str | Path) -> str:
    asked = ("--asset", "film", "--asset-file", home / "film.mp4", "--recipient", recipient)
    return str(answer("mark", "issue", *asked, *more)["serial"])


def test_from_a_copy_to_whoever_leaked_it(home: Path) -> None:
    serials = {name: issue(home, name) for name in ("anna", "zoe")}
    copy = home / "anna.mp4"
    made = answer("mark", "embed", home / "film.mp4", copy, "--copy", serials["anna"], *FAST)
    assert (made["serial"], made["frames"], made["proof"]["wrong"]) == (serials["anna"], 48, 0)
    assert made["copied"] == ["stream 1 (audio)"]
    assert made["encoder"].startswith("libx264 preset=veryfast crf=23 yuv420p")
    rows = [json.loads(line) for line in run("ledger", "list", "--json").splitlines()]
    row = next(row for row in rows if row["recipient"] == "anna")
    assert row["output_sha256"] == made["sha256"]
    assert row["psnr_db"] == pytest.approx(made["psnr_db"], abs=0.01)
    assert row["carrier"].startswith("marks-reference@")
    assert answer("ledger", "verify", "--codes")["sound"]

    public = answer("engine", "keygen", home / "sign.key")["public"]
    page, document = home / "out.html", home / "trace.json"
    told = run(
        *("mark", "trace", copy, "--report", page, "-o", document),
        *("--sign-with", home / "sign.key", "--policy", "count:16"),
    )
    assert told.startswith("IDENTIFIED")
    assert "anna" in told
    assert "zoe" not in told
    trace = parse_trace(document.read_bytes())
    assert (trace.verdict, [a.source.serial for a in trace.accused]) == (
        "IDENTIFIED",
        [serials["anna"]],
    )
    assert trace.accused[0].code is not None
    assert trace.accused[0].code not in told
    assert trace.models[0].role == "extractor"
    assert trace.suspect.sha256 == made["sha256"]
    assert trace.rerun is not None
    assert "--policy count:16" in trace.rerun
    assert sum(frame.thumbnail is not None for frame in trace.frames) == 16
    signature = (home / "trace.json.sig").read_bytes()
    assert trace_signer(document.read_bytes(), signature, (public,)) == public
    assert "data:image/jpeg;base64," in page.read_text()
    for path in (page, document):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_trace_as_json(home: Path) -> None:
    issue(home, "anna")
    trace = answer("mark", "trace", home / "film.mp4", "--no-search", "--tried-before", "3")
    assert parse_trace(json.dumps(trace).encode()).verdict == "NO_EVIDENCE"
    assert (trace["trials"]["attempts"], trace["trials"]["tried_before"]) == (2, 3)
    assert trace["accused"] == []
    elsewhere = answer("mark", "trace", home / "film.mp4", "--no-search", "--asset", "series")
    assert elsewhere["left_out"] == {"not asked for": 1}
    early = answer("mark", "trace", home / "film.mp4", "--no-search", "--received-at", "2020-01-01")
    assert early["left_out"] == {"issued after the suspect was received": 1}
    issue(home, "eve", "--carrier", "reelmark@1")
    assert answer("mark", "trace", home / "film.mp4", "--no-search")["trials"]["rows"] == 1


def test_a_ledger_that_was_changed_accuses_nobody(home: Path) -> None:
    serial = issue(home, "anna")
    run("mark", "embed", home / "film.mp4", home / "anna.mp4", "--copy", serial, *FAST)
    run("ledger", "head", "-o", home / "head.json")
    assert "IDENTIFIED" in run("mark", "trace", home / "anna.mp4", "--head", home / "head.json")
    db = sqlite3.connect(home / "marks.ledger")
    db.executescript(
        "DROP TRIGGER no_update;UPDATE rows SET body = replace(body, 'anna', 'otto') WHERE idx = 0;"
    )
    db.close()
    told = run("mark", "trace", home / "anna.mp4", code=3)
    assert "ledger.broken" in told
    assert "otto" not in told


def test_rows_cut_off_are_seen_by_a_kept_head(home: Path) -> None:
    issue(home, "anna")
    issue(home, "eve")
    run("ledger", "head", "-o", home / "head.json")
    db = sqlite3.connect(home / "marks.ledger")
    db.executescript("DROP TRIGGER no_delete;DELETE FROM rows WHERE idx = 1;")
    db.close()
    told = run("mark", "trace", home / "film.mp4", "--head", home / "head.json", code=3)
    assert "ledger.broken" in told


def test_what_embedding_refuses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serial, out = issue(home, "anna"), home / "copy.mp4"
    other = issue(home, "eve", "--carrier", "reelmark@1")
    write_film(home / "other.mp4", Film(seed=3))

    def refused(asset: str, *more: str | Path, code: int = 2) -> str:
        told = run("mark", "embed", home / asset, out, *more, code=code)
        assert not out.exists()
        return told

    assert "ledger.no_copy" in refused("film.mp4", "--copy", "NOBODY", code=3)
    assert "mark.other_asset" in refused("other.mp4", "--copy", serial)
    assert "mark.other_carrier" in refused("film.mp4", "--copy", other)
    assert "fetch.not_found" in refused("none.mp4", "--copy", serial)
    assert "marks.strength_db" in refused("film.mp4", "--copy", serial, "--strength", "70")
    assert "mark.unreadable" in refused(
        "film.mp4", "--copy", serial, "--strength", "60", "--preset", "veryfast"
    )
    monkeypatch.delenv("REELSIGHT_MARKS__PAIR")
    assert "mark.other_carrier" in refused("film.mp4", "--copy", serial)


@pytest.mark.parametrize(
    ("content", "says"), [(b"no clip", "media.unrecognised_container"), (None, "fetch.not_found")]
)
def test_what_tracing_refuses(home: Path, content: bytes | None, says: str) -> None:
    issue(home, "anna")
    clip = home / "found.mp4"
    if content is not None:
        clip.write_bytes(content)
    assert says in run("mark", "trace", clip, code=2)
    error: dict[str, Any] = json.loads(run("mark", "trace", clip, "--json", code=2).splitlines()[0])
    assert error["error"]["code"] == says


def test_a_pair_that_was_changed(home: Path) -> None:
    issue(home, "anna")
    path = home / "pair" / "extractor.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    assert "model.damaged" in run("mark", "trace", home / "film.mp4", code=2)
