"""The engines' benchmark: what becomes of the raw numbers, and how its processes are spoken to."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import tables
from benchmarks.engines import machine
from benchmarks.engines.contender import contenders_on
from benchmarks.engines.files import ModelFiles, spec_from
from benchmarks.engines.frames import drawn_frames
from benchmarks.engines.prepare import Preparation, child_environment
from benchmarks.engines.rounds import Protocol, measure_model
from benchmarks.engines.summary import agreement, ratios, summarise
from benchmarks.engines.table import engines_table
from benchmarks.engines.timing import timed, timed_each
from benchmarks.engines.towers import ModelCase, case_of
from benchmarks.json_lines import serve
from engines.catalog import find_model
from engines.runtimes.ort_cpu import OrtCpuEngine
from reelsight.nouns.engine_spec import EngineSpec, Geometry

ROOT = Path(__file__).parents[2]


def raw(p50: float, rate: float, streamed: float | None = None) -> dict[str, Any]:
    """A round whose batch of 8 is ten times as fast as its batch of 1."""
    return {
        "latency": {"p50_ms": p50, "p99_ms": 2 * p50, "runs": 3},
        "images_per_s": {"1": rate / 10, "8": rate},
        "best_batch": 8,
        "pipelined_images_per_s": streamed,
    }


def contender(rounds: list[dict[str, Any]], mib: int | None) -> dict[str, Any]:
    memory = {"batch": 8, "mib": mib, "torch_reserved_mib": None, "every_batch_mib": mib}
    return {"rounds": rounds, "memory": memory, "build_s": None, "ready_s": 1.0}


@pytest.fixture
def found() -> dict[str, dict[str, Any]]:
    same = {"mean": 0.99951, "p1": 0.98761, "min": 0.9}
    ours = contender([raw(1, 1000, 900), raw(3, 1200, 600), raw(2, 1100, 990)], 500)
    return {
        "eager-fp32": contender([raw(8, 100), raw(9, 110), raw(7, 120)], 2000),
        "ort-fp16": {"failed": "load: no\n CUDA."},
        "engine-fp16": ours | {"build_s": 61.4, "agreement": same},
    }


def document(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    contenders = summarise(found)
    gpu = {"name": "NVIDIA X", "sm": "9.0", "driver": "580", "power_limit_w": "700"}
    model = {"name": "ViT-X", "weights": "random weights, seed 1", "size": 224, "batches": [1, 8]}
    return {
        "machine": {"cpu": "C", "cores": 16, "gpu": gpu},
        "versions": {"torch": "2"},
        "settings": {"rounds": 3, "seconds": 2.0, "latency_runs": 300},
        "models": {"x": model | {"contenders": contenders, "ratios": ratios(contenders)}},
    }


def test_rounds_become_medians(found: dict[str, dict[str, Any]]) -> None:
    summary = summarise(found)
    ours = summary["engine-fp16"]
    assert ours["latency_ms"] == {"p50": 2, "p99": 4}
    assert ours["images_per_s"] == {"1": 110, "8": 1100}
    assert ours["best"] == {"batch": 8, "images_per_s": 1100}
    assert ours["spread"] == pytest.approx(200 / 1100, abs=1e-4)
    # Of the same round: the shares are .9, .5 and .9, whatever the medians' quotient is.
    assert ours["pipelined"] == {"batch": 8, "images_per_s": 900, "share": 0.9}
    assert ours["memory"]["share"] == 0.25
    assert ours["rounds"] == found["engine-fp16"]["rounds"], "raw numbers are kept"
    assert summary["eager-fp32"]["pipelined"] is None
    assert summary["ort-fp16"] == found["ort-fp16"]


def test_memory_has_no_share_of_a_reference_that_failed(found: dict[str, dict[str, Any]]) -> None:
    summary = summarise(found | {"eager-fp32": {"failed": "out of memory"}})
    assert summary["engine-fp16"]["memory"]["share"] is None
    assert summary["engine-fp16"]["memory"]["mib"] == 500


def test_a_ratio_says_how_many_times_faster_ours_is(found: dict[str, dict[str, Any]]) -> None:
    assert ratios(summarise(found)) == {
        "engine-fp16": {"eager-fp32": {"images_per_s": 10.0, "p50": 4.0}}
    }


def test_latency_may_be_missing(found: dict[str, dict[str, Any]]) -> None:
    for row in found["engine-fp16"]["rounds"]:
        row["latency"] = None
    summary = summarise(found)
    assert summary["engine-fp16"]["latency_ms"] is None
    assert ratios(summary)["engine-fp16"]["eager-fp32"]["p50"] is None
    assert "| **ours** FP16 |  | 8 |" in engines_table(document(found))


def test_agreement_is_centred() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 8)).astype(np.float32)
    assert agreement(rows, rows) == {"mean": 1.0, "p1": 1.0, "min": 1.0}
    # A large common part hides every difference from a plain cosine.
    other = rng.normal(size=(50, 8)).astype(np.float32)
    assert agreement(rows + 100, other + 100)["mean"] < 0.5


def test_the_table_has_every_number_and_every_failure(found: dict[str, dict[str, Any]]) -> None:
    text = engines_table(document(found))
    assert "| torch eager FP32 | 8.00 / 16.00 | 8 | 110 |  | 2,000 (100%) |  |  |" in text
    assert (
        "| **ours** FP16 | 2.00 / 4.00 | 8 | 1,100 | 900 (90%) | 500 (25%) | 61 | 0.9995 / 0.9876 |"
        in text
    )
    assert "torch eager FP32 10.00x (4.00x)." in text
    assert "Not measured: ONNX Runtime FP16: load: no CUDA." in text
    assert "NVIDIA X (SM 9.0, driver 580, 700 W), C, 16 cores; medians of 3 rounds" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1, "every row has as many cells as the head"


def test_timing_counts_one_stretch_that_is_long_enough() -> None:
    asked: list[int] = []

    def run(times: int) -> None:
        asked.append(times)
        until = time.perf_counter() + 1e-4 * times
        while time.perf_counter() < until:
            pass

    times, took = timed(run, 0.05)
    assert times == asked[-1]
    assert took >= 0.05
    assert asked[0] == 1
    assert all(b <= 10 * a for a, b in pairwise(asked)), "guesses grow slowly"


def test_single_runs_are_counted_after_a_tenth_more() -> None:
    calls: list[int] = []
    found = timed_each(lambda: calls.append(1), 30)
    assert len(found) == 30
    assert len(calls) == 34
    assert all(0 <= ms < 1000 for ms in found)


def test_a_worker_answers_errors_and_goes_on() -> None:
    def refuse() -> None:
        raise SystemExit("no such provider")

    def fail() -> None:
        raise ValueError("a library's")

    replies = io.StringIO()
    asked = io.StringIO(
        '["no", {}]\n["fail", {}]\n["add", {"a": 1, "b": 2}]\n["quit", {}]\n["add", {}]\n'
    )
    serve({"no": refuse, "fail": fail, "add": lambda a, b: a + b}, asked, replies, SystemExit)
    assert [json.loads(line) for line in replies.getvalue().splitlines()] == [
        {"error": "no such provider"},
        {"error": "ValueError: a library's"},
        {"answer": 3},
    ]


def test_a_contender_is_measured_in_its_process(tmp_path: Path) -> None:
    model = find_model("reelsight-mini", Path())
    case, files = ModelCase("mini", "mini", (1, 2)), ModelFiles(tmp_path / "mini")
    files.derived("fp32").parent.mkdir(parents=True)
    shutil.copyfile(model.image, files.derived("fp32"))
    frames = drawn_frames(3, model.geometry.size, 0).frames
    np.save(files.frames, frames)
    how = Protocol("cpu", rounds=2, seconds=0.01, latency_runs=3, threads=1, profile=True)
    env = child_environment(tmp_path, "cpu", 1)
    found = measure_model(case, ["ort-fp32"], files, how, env)["ort-fp32"]
    assert [sorted(r["images_per_s"]) for r in found["rounds"]] == [["1", "2"], ["1", "2"]]
    assert min(min(r["images_per_s"].values()) for r in found["rounds"]) > 0
    assert {r["best_batch"] for r in found["rounds"]} == {found["rounds"][0]["best_batch"]}
    assert all(r["latency"]["p50_ms"] > 0 for r in found["rounds"])
    assert found["memory"]["mib"] is None, "there is no GPU to ask"
    # Three frames in batches of two: the one that fills the last batch is left out again.
    engine = OrtCpuEngine(model, buckets=(3,))
    np.testing.assert_allclose(np.load(files.rows("ort-fp32")), engine.run(frames), atol=1e-5)


def test_contenders_that_fail_are_recorded_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Real processes: one finds no file, and one does not even exist."""
    case, files = ModelCase("m", "ViT-B-32", (1,)), ModelFiles(tmp_path / "m")
    files.root.mkdir()
    np.save(files.frames, drawn_frames(2, 32, 0).frames)
    failure = files.failure("derive-fp32")
    failure.parent.mkdir()
    failure.write_text("no space left")
    how = Protocol("cpu", rounds=1, seconds=0.01, latency_runs=1, threads=1, profile=False)
    env = child_environment(tmp_path, "cpu", 1)
    found = measure_model(case, ["ort-fp32", "strange-fp32"], files, how, env)
    assert found["ort-fp32"] == {"failed": "load: no space left"}
    assert "its process ended" in found["strange-fp32"]["failed"]
    assert "no contender 'strange-fp32'" in files.log("worker-strange-fp32").read_text()


def test_steps_follow_from_the_contenders() -> None:
    def steps(*contenders: str) -> Preparation:
        return Preparation("cuda", contenders, "minmax", 1, 1, 1)

    every = steps(*contenders_on("cuda", ("fp16", "int8")))
    assert every.steps == ["build-fp16", "build-int8"]
    assert every.compiled == ["compile-fp16"]
    assert steps("ort-fp16").steps == ["derive-fp16"]


def test_the_reason_of_a_missing_file_may_be_the_exports(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path)
    assert files.why_missing("build-fp8") == "build-fp8 was not prepared"
    for step in ("export", "build-fp8"):
        files.failure(step).parent.mkdir(exist_ok=True)
        files.failure(step).write_text(f"{step} broke")
        assert files.why_missing("build-fp8") == f"{step} broke"


def test_children_find_what_the_parent_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/theirs")
    env = child_environment(tmp_path, "cpu", 1)
    assert env["PYTHONPATH"].split(os.pathsep) == [str(ROOT / "platform"), str(ROOT), "/theirs"]
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in child_environment(tmp_path, "cuda", 1).keys() - os.environ


def test_names_of_models() -> None:
    plain = case_of("vit-b-32", None)
    assert (plain.key, plain.name, plain.batches) == ("vit-b-32", "ViT-B-32", (1, 64, 1024))
    assert plain.seed == 1
    assert case_of("resnet50", (2, 4)).batches == (2, 4)
    assert case_of("timm/resnet18", None).seed == 1
    assert case_of("timm/resnet18/a1_in1k", None).seed is None
    tagged = case_of("ViT-L-14/openai", None)
    assert (tagged.key, tagged.seed) == ("vit-l-14-openai", None)
    assert ModelCase.read(tagged.dumps()) == tagged


def test_specs_survive_json() -> None:
    from dataclasses import asdict

    spec = EngineSpec("m", "h", "b", "1", "fp16", "o", Geometry(32), 8, (1, 4))
    assert spec_from(json.loads(json.dumps(asdict(spec)))) == spec


def test_frames_are_the_same_for_the_same_seed_and_differ_among_themselves() -> None:
    frames = drawn_frames(4, 32, 3).frames
    np.testing.assert_array_equal(frames, drawn_frames(4, 32, 3).frames)
    assert not np.array_equal(frames, drawn_frames(4, 32, 4).frames)
    assert len(np.unique(frames.reshape(4, -1), axis=0)) == 4
    assert frames.std() > 10


def test_the_machine_is_read_from_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "memory = 'memory.used' in sys.argv[1]\n"
        "print('1234' if memory else 'NVIDIA H200, 9.0, 580.1, 700.00, 143771')\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert machine.memory_used_mib() == 1234
    gpu = machine.machine("cuda")["gpu"]
    assert gpu["name"] == "NVIDIA H200"
    assert gpu["power_limit_w"] == "700.00"
    assert "gpu" not in machine.machine("cpu")


@pytest.fixture
def pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: dict[str, dict[str, Any]]
) -> Path:
    """Two pages, one table in each, and the results of one of them."""
    (tmp_path / "engines-h200.json").write_text(json.dumps(document(found)))
    marker = "<!-- table:engines-h200 -->\nold\n<!-- /table -->\n"
    (tmp_path / "a.md").write_text(f"# A\n\n{marker}")
    (tmp_path / "b.md").write_text(f"{marker}\nend\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    monkeypatch.setattr(tables, "PAGES", ("a.md", "b.md"))
    monkeypatch.setattr(sys, "argv", ["tables"])
    return tmp_path


def test_every_page_is_made_and_checked(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tables", "--check"])
    with pytest.raises(SystemExit, match=r"a\.md, b\.md"):
        tables.main()
    assert "old" in (pages / "a.md").read_text(), "a check changes nothing"
    monkeypatch.setattr(sys, "argv", ["tables"])
    tables.main()
    for name in ("a.md", "b.md"):
        assert "**ours** FP16" in (pages / name).read_text()
    assert (pages / "b.md").read_text().endswith("<!-- /table -->\n\nend\n")
    monkeypatch.setattr(sys, "argv", ["tables", "--check"])
    tables.main()


def test_a_table_without_results_is_an_error(pages: Path) -> None:
    (pages / "engines-h200.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"engines-h200\.json"):
        tables.main()
