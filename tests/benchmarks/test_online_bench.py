"""The online benchmark counts rightly, and asks the door for more than it can do, in small."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from benchmarks.online.client import Order, Outcome, ask
from benchmarks.online.figures import medians, percentile, save, summary
from benchmarks.online.inputs import make_clips, make_images
from benchmarks.online.overload import judged
from benchmarks.online.servers import free_port
from benchmarks.online.table import overload_table
from reelsight.media.magic import is_still
from tests.deployments.doors import listening

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A server whose every third answer is a refusal."""
    api, asked = FastAPI(), 0

    @api.post("/tags")
    async def tags(request: Request) -> Response:
        nonlocal asked
        asked += 1
        form = await request.form()
        assert form["file"].size  # type: ignore[union-attr]
        await form.close()
        if asked % 3 == 0:
            headers = {"Retry-After": "1", "reelsight-code": "serve.overloaded"}
            return JSONResponse({}, 503, headers)
        labels = [{"name": "a"}, {"name": "b"}]
        return JSONResponse({"provenance": {"bank_hash": "beef"}, "labels": labels})

    @api.get("/chunks")
    async def chunks() -> Response:
        async def parts() -> Any:
            for part in (b"one", b"two"):
                yield part
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    with listening(api) as place:
        yield int(place.rpartition(":")[2])


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("uploads"), 1, (96, 128))[0]


def test_a_closed_loop_counts_answers_and_refusals(port: int, upload: Path) -> None:
    told = ask(Order(port, "/tags", [str(upload)], 0.5, concurrency=2, banks=True))
    outcomes = told["outcomes"]
    good = [one for one in outcomes if one.status == 200]
    refused = [one for one in outcomes if one.status == 503]
    assert len(good) + len(refused) == len(outcomes) > 6
    assert abs(len(good) - 2 * len(refused)) <= 2
    assert all(one.retry and one.code == "serve.overloaded" for one in refused)
    assert all((one.bank, one.labels) == ("beef", ["a", "b"]) for one in good)
    row = summary(told, server_cpu_s=1.0)
    assert row["errors"] == {"503 serve.overloaded": len(refused)}
    assert row["per_s"] == pytest.approx(len(good) / told["span_s"], abs=0.01)
    assert row["server_cpu_ms"] == pytest.approx(1000 / len(good), abs=0.01)


def test_a_rate_is_kept_whatever_the_answers_do(port: int, upload: Path) -> None:
    told = ask(Order(port, "/tags", [str(upload)], 1.0, rate=50))
    assert 30 <= len(told["outcomes"]) <= 75
    none_open = ask(Order(port, "/tags", [str(upload)], 0.2, rate=50, max_open=0))
    assert (none_open["outcomes"], none_open["unsent"] > 0) == ([], True)


def test_chunked_answers_and_closed_ports_are_understood(port: int) -> None:
    told = ask(Order(port, "/chunks", [], 0.1, concurrency=1))
    assert {one.status for one in told["outcomes"]} == {200}
    nobody = ask(Order(free_port(), "/tags", [], 0.05, concurrency=1))
    assert {(o.status, o.code) for o in nobody["outcomes"]} == {(0, "ConnectionRefusedError")}


def test_uploads_are_what_they_say(upload: Path, tmp_path: Path) -> None:
    clip = make_clips(tmp_path, 1, (96, 128), seconds=1, rate=5)[0]
    assert is_still(upload.read_bytes())
    assert not is_still(clip.read_bytes())
    written = clip.stat().st_mtime_ns
    assert make_clips(tmp_path, 1, (96, 128), seconds=1, rate=5)[0].stat().st_mtime_ns == written


def test_percentiles_and_medians() -> None:
    assert percentile([], 0.5) is None
    assert percentile([k / 1000 for k in range(1, 101)], 0.99) == 100.0
    rows = [
        {"requests": n, "per_s": n / 2, "p50_ms": None, "errors": {"503": n}} for n in (2, 8, 4)
    ]
    assert medians(rows) == {
        "requests": 14,
        "per_s": 2.0,
        "p50_ms": None,
        "errors": {"503": 14},
        "rounds_per_s": [1.0, 4.0, 2.0],
    }


def test_overload_is_judged_by_what_came_in_time() -> None:
    answers = [Outcome(k / 10, 0.2, 200) for k in range(100)]
    rejects = [Outcome(k / 10, 0.01, 503, "serve.overloaded", True) for k in range(200)]
    told = {
        "outcomes": [*answers, *rejects, Outcome(1.0, 0.1, 0, "ConnectionResetError")],
        "unsent": 0,
        "began_at": 1000.0,
        "span_s": 10.1,
        "cpu_s": 1.0,
    }
    capacity = {"per_s": 10.0, "p99_ms": 90.0, "server_cpu_ms": 50.0}
    probes = [(1009.0, 0.1, 200), (1010.5, 0.1, 503), (1011.0, 0.9, 200), (1012.0, 0.2, 200)]
    order = Order(1, "/", [], 10.0, rate=30)
    found = judged(capacity, 0.1, order, [100.0, 150.0, 120.0], probes, told)
    assert (found["goodput_per_s"], found["goodput_share"]) == (9.9, 0.99)
    assert (found["rejects"], found["reject_p99_ms"], found["neither"]) == (200, 10.0, 1)
    assert found["neither_are"] == ["0 ConnectionResetError"]
    assert found["recovered_s"] == 2.0
    assert all(found["aims"].values())


def test_files_of_three_programs_are_one(tmp_path: Path) -> None:
    path = tmp_path / "online-cpu.json"
    save(path, "soak", {"a": 1})
    save(path, "overload", {"b": 2})
    kept = json.loads(path.read_text())
    assert kept == {"benchmark": "online-cpu", "soak": {"a": 1}, "overload": {"b": 2}}


def test_the_door_takes_three_times_its_capacity(tmp_path: Path) -> None:
    results = tmp_path / "online-cpu.json"
    command = [sys.executable, "-m", "benchmarks.online.overload", "--tiny"]
    command += ["--work", str(tmp_path), "--results", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(results.read_text())
    found = document["overload"]["kinds"]["image"]
    assert found["goodput_per_s"] > 0
    assert found["rejects"] == found["rejects_with_retry_after"] > 0
    assert found["memory_mib"]["start"] > 100
    assert found["recovered_s"] is not None
    assert "capacity" in overload_table(document)
