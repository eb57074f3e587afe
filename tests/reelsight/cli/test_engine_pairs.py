"""`reelsight engine` and `mark trace` with the extractor of a pair, as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.made_films import Film, write_film
from tests.reelsight.cli.test_mark_commands import answer, run
from tests.reference_pair import write_pair

FILM = Film(frames=48, width=426, height=240)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tenant key, a pair of convolutions, an asset, and clips to judge by."""
    run("mark", "keygen", tmp_path / "tenant.key")
    settings = {
        "MARKS__KEY_FILE": tmp_path / "tenant.key",
        "MARKS__LEDGER": tmp_path / "marks.ledger",
        "MARKS__PAIR": write_pair(tmp_path / "pair", convolutions=True),
        "MARKS__STRENGTH_DB": 36,
        "CACHE_DIR": tmp_path / "cache",
        "ENGINE__REGISTRY": tmp_path / "registry",
        "ENGINE__BUCKETS": "[8, 32]",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"REELSIGHT_{name}", str(value))
    (tmp_path / "clips").mkdir()
    for seed in range(1, 5):
        many = Film(seed=seed, width=320, height=180, frames=96)
        write_film(tmp_path / "clips" / f"clip{seed}.mp4", many)
    write_film(tmp_path / "film.mp4", FILM)
    return tmp_path


def test_from_a_package_to_a_verdict(home: Path) -> None:
    pair = ("--pair", home / "pair")
    wanted = ("engine", "build", *pair, "--precision", "int8-fp32", "--frames", home / "clips")
    made = answer(*wanted, "--bench-seconds", "0.05", "--calibration", "minmax")
    assert made["published"] == made["path"]
    assert made["gate"]["named_before"] == made["gate"]["named_after"] == made["gate"]["cases"]
    assert made["path"].startswith("marks-reference-")
    lines = run("engine", "list", *pair, "--json").splitlines()
    chosen = next(one for one in map(json.loads, lines) if one["chosen"])
    assert (chosen["backend"], chosen["precision"]) == ("onnxruntime-cpu", "int8-fp32")
    shown = run("engine", "inspect", made["path"])
    assert "right bits of marked frames" in shown
    assert "worst case: clip " in shown
    judged = answer("engine", "gate", made["path"], *pair, "--frames", home / "clips")
    assert judged["gate"]["passed"]

    asset = ("--asset", "film", "--asset-file", home / "film.mp4")
    serial = answer("mark", "issue", *asset, "--recipient", "anna")["serial"]
    copy = home / "anna.mp4"
    run("mark", "embed", home / "film.mp4", copy, "--copy", serial, "--preset", "veryfast")
    low = ("--precision", "int8-fp32", "--no-search", "--policy", "count:16")
    trace = answer("mark", "trace", copy, *low)
    assert [one["source"]["recipient"] for one in trace["accused"]] == ["anna"]
    assert "int8-fp32 on onnxruntime-cpu" in trace["models"][0]["name"]
    assert "--precision int8-fp32" in trace["rerun"]
    high = answer("mark", "trace", copy, "--no-search", "--policy", "count:16")
    assert trace["models"][0]["sha256"] != high["models"][0]["sha256"]
    assert [one["serial"] for one in (a["source"] for a in high["accused"])] == [serial]
    assert "package.none_usable" in run("mark", "trace", copy, "--precision", "fp8", code=2)


def test_what_an_extractor_is_not_built_from(home: Path) -> None:
    wanted = ("engine", "build", "--pair", home / "pair", "--precision", "int8-fp32")
    assert "config.frames" in run(*wanted, code=2)
    (home / "none").mkdir()
    assert "config.frames" in run(*wanted, "--frames", home / "none", code=2)
    write_film(home / "none" / "one.mp4", Film(seed=9, frames=240, width=320, height=180))
    told = run(*wanted, "--frames", home / "none", "--count", "256", code=2)
    assert "only one gave frames" in told
