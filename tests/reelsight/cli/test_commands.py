"""The command line as a person uses it: a process, its output, its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import reelsight
from reelsight.cli.options import load
from reelsight.samples.clips import SampleClip

ROOT = Path(__file__).parents[3]


def run(*args: str | Path, code: int = 0, module: str = "reelsight.cli.app") -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_version() -> None:
    assert run("--version") == f"reelsight {reelsight.__version__}\n"


def test_help_lists_every_command_and_does_not_import_ray() -> None:
    text = run("--help")
    for name in (
        "tag",
        "backfill",
        "query",
        "replay",
        "retag",
        "runs",
        "verify",
        "bank",
        "models",
        "doctor",
        "samples",
        "mark",
        "ledger",
    ):
        assert name in text
    probe = (
        "import sys, reelsight.cli.app; print('ray' in sys.modules, 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == ["False", "False"]


def test_a_setting_by_its_name_counts_unless_its_own_flag_is_given() -> None:
    named = ["model=other", "bank=some.bank", "engine.backend=fake"]
    settings = load(assignments=named)
    assert (settings.model, settings.bank) == ("other", "some.bank")
    assert settings.engine.backend == "fake"
    assert load(assignments=named, model="flag").model == "flag"


def test_tag_prints_one_report_a_line(samples: list[SampleClip]) -> None:
    reports = lines(run("tag", samples[0].path, samples[1].path, "--json"))
    assert [r["status"] for r in reports] == ["tagged", "tagged"]
    for report, clip in zip(reports, samples, strict=False):
        assert report["clip"]["duration_s"] == pytest.approx(clip.duration_s, abs=0.05)
        assert report["provenance"]["model"] == "reelsight-mini"
        assert report["tags"][0]["segments"][0]["end_ms"] > 0


def test_tag_tells_a_failed_clip_by_its_exit_code(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    (report,) = lines(run("tag", text, "--engine", "fake", "--json", code=1))
    assert report["error"]["code"] == "media.unrecognised_container"
    assert "FAILED media.unrecognised_container" in run("tag", text, "--engine", "fake", code=1)


def test_backfill_and_query(samples: list[SampleClip], tmp_path: Path) -> None:
    manifest = samples[0].path.parent / "manifest.parquet"
    out = tmp_path / "out"
    arguments = ("--manifest", manifest, "--output", out, "--engine", "fake", "--json")
    # `python -m jobs.backfill`, `python jobs/backfill.py` and `reelsight backfill` are one program.
    record = json.loads(run(*arguments, module="jobs.backfill"))
    assert record["state"] == "complete"
    done = subprocess.run(
        [sys.executable, "jobs/backfill.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert "--manifest" in done.stdout
    rows = lines(run("query", out, "select clip_id, tag_count from clips order by 1", "--json"))
    assert [row["clip_id"] for row in rows] == sorted(clip.clip_id for clip in samples)
    assert "clip_id" in run("query", out, "select * from tags limit 1")
    (told,) = lines(run("runs", out, "--json"))
    assert (told["state"], told["tagged"], told["pending"]) == ("complete", len(samples), 0)
    assert f"{len(samples)} tagged + 0 dead + 0 pending" in run("verify", out)
    reason = ("--reason", "fetch.not_found", "--engine", "fake")
    assert "error run.no_such_dead: " in run("replay", out, *reason, code=2)
    next((out / "data").rglob("*.parquet")).unlink()
    damaged = json.loads(run("verify", out, "--json", code=4))
    assert [f["code"] for f in damaged["findings"]] == ["file_missing", "ids_lost"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("backfill", "--manifest", "no.parquet", "--output", "out"), "manifest.missing"),
        (("tag", "x.mp4", "--model", "no-such-model"), "model.unknown"),
        (("tag", "x.mp4", "--bank", "no-such-bank"), "bank.missing"),
        (("tag", "x.mp4", "--fps", "1", "--frames", "2"), "config.conflict"),
        (("tag", "x.mp4", "--fps", "-1"), "config.invalid"),
        (("tag", "x.mp4", "--set", "nonsense"), "config.invalid"),
        (("query", "nowhere", "select 1"), "store.no_run"),
        (("tag", "x.mp4", "--set", "a=["), "config.invalid"),
        (("bank", "build", "no.yaml"), "bank.definition"),
        (("bank", "show", "no-such-bank"), "bank.missing"),
        (("manifest", "docs", "--all", "-o", "/proc/no/m.parquet"), "manifest.unwritable"),
        (("manifest", "no-directory", "-o", "m.parquet"), "manifest.missing"),
    ],
)
def test_wrong_input_gives_words_a_code_and_a_hint(arguments: tuple[str, ...], code: str) -> None:
    said = run(*arguments, "--json", code=2)
    assert f"error {code}: " in said
    assert "hint: " in said
    assert json.loads(said.splitlines()[0])["error"]["code"] == code


def test_a_new_label_without_retraining(samples: list[SampleClip], tmp_path: Path) -> None:
    definition = tmp_path / "labels.yaml"
    definition.write_text(
        "name: mine\nlabels:\n- name: qr\n  prompts: [a qr code]\n- name: snowing\n"
        "  prompts: [snow is falling]\n"
    )
    bank = json.loads(run("bank", "build", definition, "-o", tmp_path / "b", "--json"))
    shown = json.loads(run("bank", "show", bank["path"], "--json"))
    assert [label["name"] for label in shown["labels"]] == ["qr", "snowing"]
    (report,) = lines(run("tag", samples[0].path, "--bank", bank["path"], "--json"))
    assert report["provenance"]["bank_hash"] == bank["hash"]
    refused = run("tag", samples[0].path, "--bank", bank["path"], "--engine", "fake", code=2)
    assert "bank.other_model" in refused


def test_lists(tmp_path: Path) -> None:
    banks = lines(run("bank", "list", "--json"))
    assert banks[0]["model"] == "reelsight-mini"
    assert json.loads(run("bank", "show", "reelsight-mini", "--json"))["hash"] == banks[0]["hash"]
    models = lines(run("models", "--verify", "--json"))
    assert models[0]["name"] == "reelsight-mini"
    assert models[0]["size"] == 224


def test_a_path_that_cannot_be_written_is_words_too() -> None:
    assert "error store.os_error" in run("samples", "/proc/nowhere", "--count", "1", code=3)
    assert "fetch." in run("tag", "x" * 5000, "--engine", "fake", code=1)


def test_doctor_says_what_runs_here() -> None:
    findings = {f["what"]: f for f in json.loads(run("doctor", "--json"))}
    assert {findings[name]["state"] for name in ("ray", "codecs", "engine", "bank")} == {"ok"}
    assert "reelsight-mini" in findings["engine"]["detail"]


def test_manifest_of_a_directory(samples: list[SampleClip], tmp_path: Path) -> None:
    out = tmp_path / "m.parquet"
    made = json.loads(run("manifest", samples[0].path.parent, "-o", out, "--json"))
    assert made["clips"] == len(samples)
