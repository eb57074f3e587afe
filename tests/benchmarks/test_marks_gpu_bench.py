"""The benchmark of the extractor on a GPU, small and on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.marks.gpu import main
from benchmarks.marks.gpu_table import marks_gpu_table
from tests.made_films import Film, write_film
from tests.reference_pair import write_pair


def test_a_small_run_makes_the_table(tmp_path: Path) -> None:
    for seed in range(2):
        film = Film(seed=seed, frames=24, width=320, height=180)
        write_film(tmp_path / f"film{seed}.mp4", film)
    pair = write_pair(tmp_path / "pair", convolutions=True)
    results = tmp_path / "results.json"
    small = ("--batches", "1", "4", "--rounds", "1", "--seconds", "0.02", "--strength", "34")
    main(
        [
            *(str(pair), "--device", "cpu", "--footage", str(tmp_path)),
            *("--contenders", "ort-fp32", "ort-int8-fp32", "engine-int8"),
            *("--results", str(results), *small),
        ]
        if _without_torch()
        else [
            *(str(pair), "--device", "cpu", "--footage", str(tmp_path)),
            *("--results", str(results), *small),
        ]
    )
    document = json.loads(results.read_text())
    found = document["contenders"]
    for name in ("ONNX Runtime FP32", "ONNX Runtime INT8"):
        assert found[name]["pictures_per_s"] > 0
        assert found[name]["p99_ms"] >= found[name]["p50_ms"] > 0
        assert found[name]["agreement"] == pytest.approx(1, abs=0.02)
    text = marks_gpu_table(document)
    assert "| ONNX Runtime INT8 |" in text
    assert "Pictures a second over ONNX Runtime FP32: " in text
    if _without_torch():
        # What is not installed is told with its reason, and costs no other row.
        assert "torch" in found["**ours** INT8"]["failed"]
        assert "Not measured: **ours** INT8: " in text


def _without_torch() -> bool:
    import importlib.util

    return importlib.util.find_spec("torch") is None
