"""`reelsight engine` as a person uses it: processes, their output, their exit codes."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from engines.gate.thresholds import Thresholds, thresholds_for
from engines.package.registry import Registry
from engines.package.signing import Trust
from reelsight.cli import engine_build
from reelsight.nouns.engine_spec import DEFAULT_BUCKETS
from reelsight.samples.clips import SampleClip
from tests.reelsight.cli.test_commands import lines, run


def test_the_life_of_a_package(samples: list[SampleClip], tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    public = json.loads(run("engine", "keygen", key, "--json"))["public"]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    arguments = (
        *("engine", "build", "--precision", "fp16", "--frames", samples[0].path.parent),
        *("--count", "256", "--bench-seconds", "0.1", "--sign-with", key, "--json"),
    )
    made = json.loads(run(*arguments))
    path, directory = made["path"], made["directory"]
    assert [(a["precision"], a["outcome"]) for a in made["attempts"]] == [
        ("fp16", "not_buildable"),
        ("fp16-norms32", "not_buildable"),
        ("fp32", "passed"),
    ]
    assert made["gate"]["passed"]
    assert "frames of 12 clips" in made["gate"]["frames_words"]
    assert made["published"] == path
    assert made["benchmark"]["latency_ms"]["p50"] > 0
    # A worker that asks for the same build finds it made.
    assert json.loads(run(*arguments))["benchmark"] == made["benchmark"]

    listed = lines(run("engine", "list", "--json"))
    assert [(v["path"], v["chosen"]) for v in listed[:2]] == [
        (path, True),
        ("the FP32 master", False),
    ]
    assert "there is no package of it" in run("engine", "list")
    assert json.loads(run("engine", "inspect", path, "--json"))["signed_by"] is None
    assert f"gate: passed, {made['gate']['frames']} frames" in run("engine", "inspect", directory)
    strict = tmp_path / "strict.yaml"
    strict.write_text(f"engine: {{require_signature: true, trusted_keys: ['{public}']}}\n")
    pulled = json.loads(run("engine", "pull", path, "--config", strict, "--json"))
    assert pulled["signed_by"] == public
    measured = json.loads(run("engine", "bench", path, "--seconds", "0.1", "--json"))
    assert set(measured["buckets"]) == set(map(str, DEFAULT_BUCKETS))
    assert "one process, one engine" in measured["protocol"]
    judged = json.loads(run("engine", "gate", path, "--count", "256", "--json"))
    assert "scenes of the sample generator" in judged["gate"]["frames_words"]
    assert judged["published"] is None
    other = tmp_path / "other"
    assert run("engine", "push", pulled["directory"], "--registry", other).startswith(path)
    (Path(directory) / "image.onnx").write_bytes(b"damaged")
    for command in ("inspect", "push", "bench", "gate"):
        said = run("engine", command, directory, "--json", code=2)
        assert json.loads(said.splitlines()[0])["error"]["code"] == "package.damaged"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("build", "--precision", "int4"), "config.precision"),
        (("build", "--precision", "fp32", "--backend", "openvino"), "config.backend"),
        (("build", "--precision", "fp32", "--count", "32"), "gate.too_few_frames"),
        (("build", "--precision", "fp32", "--frames", "README.md"), "config.frames"),
        (("build", "--precision", "fp32", "--frames", "docs"), "config.frames"),
        (("build", "--precision", "fp32", "--sign-with", "nowhere"), "config.key"),
        (("build", "--precision", "fp32", "--sign-with", "README.md"), "config.key"),
        (("build", "--precision", "fp32", "--model", "no-such"), "model.unknown"),
        (("build", "--precision", "fp32", "--calibration", "bogus"), "config.calibration"),
        (("list", "--precision", "int4"), "config.precision"),
        (("list", "--backend", "foo"), "config.backend"),
        (("prebuild", "--precision", "fp32", "--target", "9"), "config.target"),
        (("prebuild", "--precision", "fp32", "--target", ""), "config.target"),
        (("inspect", "nothing/here"), "package.missing"),
        (("pull", "../x"), "package.missing"),
        (("list", "--registry", "nonsense://x"), "package.registry"),
        (("keygen", "README.md"), "config.key"),
        (
            ("prebuild", "--precision", "fp32", "--backend", "onnxruntime-cpu", "--target", "89"),
            "config.no_cross_build",
        ),
    ],
)
def test_wrong_input_gives_a_code(arguments: tuple[str, ...], code: str) -> None:
    said = run("engine", *arguments, "--json", code=2)
    assert json.loads(said.splitlines()[0])["error"]["code"] == code
    assert "hint: " in said


def test_a_verdict_that_is_overruled_takes_the_package_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a build that was damaged on this node's disk is made again by the same command."""
    place = str(tmp_path / "registry")

    def build() -> dict[str, Any]:
        engine_build.build(
            "fp32", count=256, bench_s=0.0, registry=place, fallback=False, json_=True
        )
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    made = build()
    (Path(made["directory"]) / "image.onnx").write_bytes(b"damaged")
    again = build()
    assert (again["directory"], again["published"]) == (made["directory"], made["path"])
    registry = Registry(place, Trust())
    assert [item.path for item in registry.list()] == [made["path"]]
    engine_build.gate(made["path"], count=256, publish=True, registry=place, json_=True)
    assert json.loads(capsys.readouterr().out)["published"] == made["path"]

    def impossible(precision: str) -> Thresholds:
        return replace(thresholds_for(precision), decisions=1.1)

    monkeypatch.setattr("engines.gate.judging.thresholds_for", impossible)
    with pytest.raises(typer.Exit):
        engine_build.gate(made["path"], count=256, publish=True, registry=place, json_=True)
    assert json.loads(capsys.readouterr().out)["published"] is None
    assert registry.list() == []


def test_tag_with_a_precision_that_has_no_package(samples: list[SampleClip]) -> None:
    said = run("tag", samples[0].path, "--set", "engine.precision=int8-fp32", "--json", code=2)
    assert json.loads(said.splitlines()[0])["error"]["code"] == "package.none_usable"
