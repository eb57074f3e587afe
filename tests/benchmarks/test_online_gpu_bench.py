"""The online benchmark of GPU machines, without a GPU: its steps in small, counting, tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from benchmarks import tables
from benchmarks.engines.files import ModelFiles
from benchmarks.engines.towers import ModelCase
from benchmarks.online import gpu
from benchmarks.online.client import Order
from benchmarks.online.crowd import crowd, shares
from benchmarks.online.gpu_points import Kind, Uploads, write_frames
from benchmarks.online.gpu_table import gpu_table
from benchmarks.online.inputs import make_clips
from benchmarks.online.packages import Packaging
from benchmarks.online.servers import Server, Tree, free_port
from benchmarks.online.stage import engine_stage, quantile
from deployments.meters import Meters, exposition
from deployments.tensors import read_infer
from reelsight.cli.readings import Reading, Window
from reelsight.engine.fake import fake_spec
from reelsight.errors import ReelsightError
from reelsight.settings import InferenceSettings
from tests.deployments.doors import listening

ROOT = Path(__file__).parents[2]
TREE = Tree(Server("m", ()), 0, 0, Path())


def stage(**fields: Any) -> dict[str, Any]:
    made = {"embed_p50_ms": 2.0, "embed_p99_ms": 6.25, "decode_p50_ms": 3.5}
    return made | {"within_10_ms": 0.999, "busy": 0.25, "frames_a_batch": 4.5} | fields


def row(**fields: Any) -> dict[str, Any]:
    made = {
        "model": "vit-b-32",
        "topology": "single",
        "asked": "a JPEG to /v1/tags",
        "clip": False,
        "clients": 32,
        "images_per_s": 1234.5,
        "images_a_request": 1.0,
        "requests": 600,
        "per_s": 1234.5,
        "p50_ms": 20.0,
        "p99_ms": 45.0,
        "errors": {},
        "server_cores": 3.2,
        "busiest_client": 0.3,
        "engine": stage(),
    }
    return made | fields


def document(**fields: Any) -> dict[str, Any]:
    gate = {"frames_words": "256 drawn frames", "decisions": 0.9999}
    model = {"engine": "aotinductor 2.11.0 fp16", "buckets": [1, 8, 32], "gate": gate}
    made: dict[str, Any] = {
        "machine": {"cpu": "C", "cores": 16, "gpu": {"name": "NVIDIA H200", "driver": "580"}},
        "versions": {"ray": "2.60.0"},
        "settings": {"seconds": 5.0, "processes": 6},
        "models": {"vit-b-32": model},
        "uploads": {"image": "JPEG 640x480, 90 KB"},
        "rows": [row()],
        "skipped": [],
        "failed": {},
    }
    return made | fields


# All of it.


def test_every_step_runs_with_the_shipped_model(tmp_path: Path) -> None:
    output = tmp_path / "out" / "online.json"
    command = [sys.executable, "-m", "benchmarks.online.gpu", "--tiny", "--topologies", "single"]
    command += ["--work", str(tmp_path / "work"), "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text())
    assert (found["failed"], found["skipped"]) == ({}, [])
    rows = {r["asked"]: r for r in found["rows"]}
    frames = [r["images_a_request"] for r in found["rows"]]
    assert list(zip(rows, frames, strict=True)) == [
        ("a JPEG to /v1/tags", 1.0),
        ("4 raw frames to infer", 4.0),
        ("3 decoded frames to infer", 3.0),
        ("3 keyframes", 3.0),
        ("3 frames, one keyframe", 3.0),
        ("3 frames, one keyframe, fast", 3.0),
    ]
    assert all(r["errors"] == {} and r["images_per_s"] > 0 for r in rows.values())
    assert all(r["engine"]["embed_p99_ms"] > 0 for r in rows.values())
    assert rows["a JPEG to /v1/tags"]["client_processes"] == 2
    assert gpu_table(found) in done.stdout
    assert [path.name for path in output.parent.glob("*-logs/*")] == ["reelsight-mini-single.log"]


def test_a_tiny_run_does_not_write_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--tiny"])
    assert "name another --output" in capsys.readouterr().err


# What fails, and what there is no time for.


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu._Run:
    uploads = Uploads(["a.jpg"], "k.mp4", "u.mp4", 3, {})
    monkeypatch.setattr(gpu, "make_uploads", lambda *given: uploads)
    options = gpu._options(["--tiny", "--output", str(tmp_path / "o.json"), "--budget", "1000"])
    made = gpu._Run(options, tmp_path)
    made.prepare()
    return made


def test_a_door_that_does_not_come_up_is_told_in_its_own_words(
    run: gpu._Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "door.py"
    script.write_text("print('starting'); raise SystemExit('no GPU is here')")
    broken = Server("mini single", (sys.executable, str(script)))
    monkeypatch.setattr(gpu, "door", lambda settings, name: broken)
    run.measure()
    told = json.loads((tmp_path / "o.json").read_text())
    assert set(told["failed"]) == {"reelsight-mini, single", "reelsight-mini, split"}
    assert told["failed"]["reelsight-mini, single"].endswith("(no GPU is here)")
    assert told["failed"]["reelsight-mini, single"].startswith("SystemExit: mini single ended")
    assert told["rows"] == []


def test_a_point_that_fails_ends_neither_the_run_nor_its_door(
    run: gpu._Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(tree: Any, kind: Kind, *how: Any) -> dict[str, Any]:
        if "raw" in kind.name:
            raise OSError("nobody answers\nat all")
        return {"asked": kind.name, "clients": 1, "per_s": 1.0}

    monkeypatch.setattr(gpu, "asked", fails)
    kinds = [Kind(name, "/", [], {}) for name in ("4 raw frames", "a JPEG")]
    for kind in kinds:
        run._point(TREE, "m", "single", kind, 1)
    name = "m, single, 4 raw frames, 1 at a time"
    assert run.document["failed"] == {name: "OSError: nobody answers"}
    assert [r["asked"] for r in run.document["rows"]] == ["a JPEG"]


def test_what_there_is_no_time_for_is_said(run: gpu._Run) -> None:
    run._end = 0.0
    run._point(TREE, "m", "single", Kind("a JPEG", "/", [], {}), 1)
    run._tiny = False
    uploads = run._uploads
    assert uploads is not None
    run._door({"name": "m"}, "split", uploads, whole=True)
    assert run.document["skipped"] == ["m, single, a JPEG, 1 at a time", "m, split"]


def test_the_topology_that_answers_most_is_asked_further(run: gpu._Run) -> None:
    def rate(topology: str, clients: int, per_s: float, asked: str = "jpeg") -> dict[str, Any]:
        made = {"model": "m", "topology": topology, "asked": asked}
        return made | {"clients": clients, "per_s": per_s}

    run.document["rows"] = [rate("single", 32, 50), rate("single", 256, 60)]
    assert run._best("m") == "single"
    run.document["rows"] += [rate("split", 32, 61), rate("split", 1, 9), rate("split", 32, 9, "x")]
    assert run._best("m") == "split"
    assert run._best("unknown") == "single"


@pytest.mark.parametrize(
    ("program", "error", "words"),
    [
        ("print('one'); raise SystemExit('bench.gate: it was stopped')", ReelsightError, "stopped"),
        ("import signal; signal.pause()", TimeoutError, "m was not built in 0 s"),
    ],
)
def test_a_package_that_is_not_made_says_why(
    tmp_path: Path, program: str, error: type[Exception], words: str
) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=output, stderr=output)
    files = ModelFiles(tmp_path)
    packaging = Packaging(ModelCase("m", "M", (1,)), files, process, log)
    with pytest.raises(error, match=words):
        packaging.wait(60.0 if error is ReelsightError else 0.0)
    assert process.returncode is not None


# Clients.


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    api = FastAPI()

    @api.post("/infer")
    async def infer(request: Request) -> Response:
        kind = request.headers["content-type"]
        return Response(status_code=200 if (kind, await request.body()) == ("a/b", b"raw") else 400)

    with listening(api) as place:
        yield int(place.rpartition(":")[2])


def test_connections_are_spread_over_processes() -> None:
    assert shares(256, 6) == [43, 43, 43, 43, 42, 42]
    assert shares(1, 6) == [1]
    assert sum(shares(7, 3)) == 7


def test_clients_begin_together_and_send_bodies_as_they_are(port: int, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"raw")
    order = Order(port, "/infer", [str(body)], 0.3, 3, headers={"Content-Type": "a/b"})
    told = crowd(order, 2)
    assert told["processes"] == 2
    assert {one.status for one in told["outcomes"]} == {200}
    assert len(told["outcomes"]) > 3
    assert 0.3 <= told["span_s"] < 5
    assert 0 < told["busiest"] <= 1.5


def test_nobody_there_is_an_outcome(tmp_path: Path) -> None:
    order = Order(free_port(), "/infer", [], 0.05, 2)
    assert {one.status for one in crowd(order, 2)["outcomes"]} == {0}


# What is sent.


def test_raw_frames_are_the_protocols(tmp_path: Path) -> None:
    spec = fake_spec()
    size = spec.geometry.size
    paths, headers = write_frames(tmp_path, 3, size)
    bodies = [Path(path).read_bytes() for path in paths]
    length = int(headers["Inference-Header-Content-Length"])
    asked = [read_infer(body, length, spec, InferenceSettings()) for body in bodies]
    assert all(one.pixels.shape == (3, size, size, 3) and one.binary for one in asked)
    assert not np.array_equal(asked[0].pixels, asked[1].pixels)


@pytest.mark.parametrize(("key_s", "keys"), [(1, 3), (0, 1)])
def test_a_clip_has_the_keyframes_that_were_asked_for(
    tmp_path: Path, key_s: int, keys: int
) -> None:
    import av

    path = make_clips(tmp_path, 1, (96, 128), seconds=3, rate=5, key_s=key_s)[0]
    with av.open(str(path), mode="r") as container:
        assert sum(packet.is_keyframe for packet in container.demux(video=0)) == keys


# What the engine counted.


def test_a_quantile_lies_in_its_bucket() -> None:
    buckets = [(0.005, 50.0), (0.01, 98.0), (0.02, 100.0), (float("inf"), 100.0)]
    assert quantile(buckets, 0.5) == (5.0, 5.0)
    assert quantile(buckets, 0.99) == (15.0, 20.0)
    assert quantile([(0.005, 0.0), (float("inf"), 3.0)], 0.5) == (5.0, float("inf"))
    assert quantile([(0.005, 0.0), (float("inf"), 0.0)], 0.5) is None
    assert quantile([], 0.5) is None


def test_the_engines_stage_is_what_was_counted_in_between() -> None:
    one, other = Meters("engine", "a"), Meters("engine", "b")
    one.ran(3, 4, 0.5)
    one.embedded(2.0)
    before = Reading.parse(exposition([one.written(), other.written()]))
    for meters in (one, other):
        meters.ran(8, 8, 0.25)
        meters.embedded(0.0035)
        meters.embedded(0.018)
    done = Window(Reading.parse(exposition([one.written(), other.written()])), before)
    found = engine_stage(done, seconds=2.0)
    assert (found["frames"], found["frames_a_batch"], found["padding_share"]) == (16, 8.0, 0.0)
    assert (found["busy"], found["within_10_ms"]) == (0.25, 0.5)
    assert 3.0 < found["embed_p50_ms"] <= 4.0
    assert (15.0 < found["embed_p99_ms"] <= 20.0, found["embed_p99_below_ms"]) == (True, 20.0)
    assert found["decode_p99_ms"] is None


# The table.


def test_the_table_has_every_number() -> None:
    clip = row(clip=True, asked="60 keyframes", clients=1, p50_ms=150.0, images_a_request=60.0)
    lost = row(clients=256, p50_ms=None, p99_ms=None, errors={"503 x": 3})
    lost["engine"] = stage(embed_p50_ms=None, embed_p99_ms=None, within_10_ms=None)
    slow = row(asked="32 raw frames to infer", engine=stage(embed_p99_ms=12.0))
    shown = gpu_table(
        document(
            rows=[row(), lost, slow, clip, clip | {"p50_ms": 250.0}],
            skipped=["vit-l-14, split"],
            failed={"vit-l-14, package": "ReelsightError: stopped"},
        )
    )
    assert (
        "| vit-b-32 | single | a JPEG to /v1/tags | 32 | 1,234 | 1,234.5 | 20.0 / 45.0 "
        "| 2.0 / 6.2 | 100% | 25% | 4.5 | 3.2 | 30% | 0 |" in shown
    )
    assert "| - / - | - / - | - | 25% | 4.5 | 3.2 | 30% | 3 x 503 x |" in shown
    assert "| 60 keyframes | 600 | 150.0 / 45.0 | 60 | 3.5 | 2.0 / 6.2 | 0 |" in shown
    assert "Kept in 1 of 2 rows." in shown
    assert "60 keyframes: yes (150 ms); vit-b-32, single, 60 keyframes: no (250 ms)." in shown
    assert "its gate: 256 drawn frames, 99.990% of the decisions kept." in shown
    assert "Failed: vit-l-14, package: ReelsightError: stopped." in shown
    assert "Out of time, not measured: vit-l-14, split." in shown
    for block in (block for block in shown.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_a_page_waits_for_its_machine(tmp_path: Path) -> None:
    page = "a\n<!-- table:online-h200 -->\nold\n<!-- /table -->\n"
    awaited = tables.render(page.replace("online-h200", "marks-h200"), tmp_path)
    assert "\nNot measured yet: the rows come with a trained pair.\n" in awaited
    with pytest.raises(FileNotFoundError):
        tables.render(page, tmp_path)
    (tmp_path / "online-h200.json").write_text(json.dumps(document()))
    assert "NVIDIA H200" in tables.render(page, tmp_path)
