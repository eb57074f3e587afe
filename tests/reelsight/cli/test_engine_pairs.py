"""`reelsight engine` and `mark trace` with the extractor of a pair, as a person uses them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from deployments.app import single_api
from deployments.marks.parts import mark_parts
from engines.catalog import recipe_for
from jobs.backfill import backfill
from reelsight.nouns.mark_trace import Trace
from reelsight.plan import plan_for
from reelsight.settings import Settings
from reelsight.store.manifest import write_manifest
from reelsight.watchlist import match_run
from tests.deployments.doors import asking
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


@pytest.mark.usefixtures("ray_cluster")
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
    assert low_behind_the_other_doors(copy) == [(trace["models"], p_values(trace))] * 2


def p_values(trace: dict[str, Any]) -> list[tuple[str, float]]:
    return [(one["source"]["serial"], one["log10_p_adjusted"]) for one in trace["accused"]]


def low_behind_the_other_doors(
    clip: Path,
) -> list[tuple[list[dict[str, str]], list[tuple[str, float]]]]:
    """Models and p-values of a scan that is matched, and over HTTP."""
    wanted = {"marks.precision": "int8-fp32", "marks.search": False, "marks.policy": "count:16"}
    settings = Settings.load(None, {"engine.backend": "fake"} | wanted)
    manifest = write_manifest(clip.parent / "m.parquet", [{"clip_id": "c", "uri": str(clip)}])
    backfill(manifest, clip.parent / "out", settings, marks="alone")
    told: list[Trace] = []
    match_run(clip.parent / "out", settings, told=told.append)
    (scanned,) = told
    recipe, answers = recipe_for(settings), []

    async def post() -> None:
        marks = mark_parts(settings)
        api = single_api(recipe, plan_for(recipe, settings), settings, marks=marks)
        async with asking(api) as client:
            answer = await client.post("/v1/marks", files={"file": clip.read_bytes()})
            answers.append(answer.json())

    asyncio.run(post())
    return [([*one["models"]], p_values(one)) for one in (asdict(scanned), *answers)]


def test_what_an_extractor_is_not_built_from(home: Path) -> None:
    wanted = ("engine", "build", "--pair", home / "pair", "--precision", "int8-fp32")
    assert "config.frames" in run(*wanted, code=2)
    (home / "none").mkdir()
    assert "config.frames" in run(*wanted, "--frames", home / "none", code=2)
    write_film(home / "none" / "one.mp4", Film(seed=9, frames=240, width=320, height=180))
    told = run(*wanted, "--frames", home / "none", "--count", "256", code=2)
    assert "only one gave frames" in told
