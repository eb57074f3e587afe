"""Kill anything, run the same command again: nothing lost, nothing twice, nothing different.

REELSIGHT_CHAOS_KILLS asks for more kills than the default (`make chaos KILLS=...`).
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engines.catalog import recipe_for
from jobs.backfill import backfill
from reelsight.engine import EngineHost
from reelsight.errors import StoreError
from reelsight.nouns.schema import reports_to_table
from reelsight.plan import plan_for
from reelsight.runner import SequentialRunner
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from reelsight.steps import ClipRequest
from reelsight.store.disk import Disk
from reelsight.store.manifest import write_manifest
from reelsight.store.objects import LocalObjects
from reelsight.store.runs import RunStore
from reelsight.store.verify import verify
from tests.chaos.ray_drill import ROOT, Chaos

KILLS = int(os.environ.get("REELSIGHT_CHAOS_KILLS", "20"))
CLIPS_PER_SHARD = 6
# Kills come with commits, which two drivers may make faster than anybody can kill.
SHARDS = 2 * KILLS


def drill(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    path = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    name, *rest = arguments
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.commit_drills", name, str(tmp_path), *rest],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_driver_may_die_at_every_step(tmp_path: Path) -> None:
    told = drill(tmp_path, "crash")
    # Each step of the commits was met, before the first of them, between, and behind the last.
    assert set(told["commits"]) == {0, 1, 2}
    assert told["points"] == len(told["commits"]) > 80


def test_two_drivers_may_race(tmp_path: Path) -> None:
    told = drill(tmp_path, "race", "50")
    assert told["won_by_both"] + told["won_by_one"] == 50
    assert told["won_by_both"] > 0


def test_a_disk_may_fail_now_and_then(tmp_path: Path) -> None:
    told = drill(tmp_path, "flaky", "20")
    assert told["faults"] > 100
    assert told["broken_drivers"] > 0


def test_a_disk_may_be_full(tmp_path: Path) -> None:
    codes = drill(tmp_path, "full")["codes"]
    assert codes[0] == "store.full"
    assert codes[-1] == ""
    assert set(codes) == {"store.full", ""}


@pytest.mark.usefixtures("ray_cluster")
def test_a_full_disk_under_ray_ends_the_run_with_its_reason(
    samples: list[SampleClip], fake_settings: Settings, tmp_path: Path
) -> None:
    class NoRoom(Disk):
        def write(self, path: Path, content: Any) -> None:
            if path.suffix == ".parquet":
                path.write_bytes(bytes(memoryview(content))[:100])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(path, content)

    manifest = samples[0].path.parent / "manifest.parquet"
    out = tmp_path / "out"
    with pytest.raises(StoreError) as caught:
        backfill(manifest, out, fake_settings, objects=LocalObjects(out, NoRoom()))
    assert caught.value.code == "store.full"
    run = RunStore(out).newest()
    assert run.record().state == "failed"
    assert "No space left" in str(run.record().problem)
    assert run.objects.names("data") == []
    assert backfill(manifest, out, fake_settings).state == "complete"


def chaos_manifest(directory: Path, samples: list[SampleClip]) -> Path:
    rows = [
        {
            "clip_id": f"clip-{i:05d}",
            "uri": "/no/such/file" if i % 10 == 7 else str(samples[i % len(samples)].path),
            "asset": i,
        }
        for i in range(SHARDS * CLIPS_PER_SHARD)
    ]
    return write_manifest(directory / "m.parquet", rows)


def unbroken(manifest: Path, settings: Settings) -> list[dict[str, Any]]:
    """What a run that nobody disturbs gives; every file is decoded once, whatever it is called."""
    recipe = recipe_for(settings)
    host = EngineHost(recipe.open_engine())
    rows: list[dict[str, Any]] = []
    known: dict[str, dict[str, Any]] = {}
    kind = pa.struct({"asset": pa.int64()})
    with SequentialRunner(plan_for(recipe, settings), host) as runner:
        for row in pq.read_table(manifest).to_pylist():
            if row["uri"] not in known:
                report = runner.report(ClipRequest(row["clip_id"], row["uri"]))
                carried = pa.array([{"asset": 0}], kind)
                table = reports_to_table([report], recipe.spec.dim, carried)
                known[row["uri"]] = table.to_pylist()[0]
            own = {"clip_id": row["clip_id"], "carried": {"asset": row["asset"]}}
            same = known[row["uri"]]
            rows.append(same | own | {"clip": same["clip"] | {"clip_id": row["clip_id"]}})
    host.close()
    return rows


@pytest.mark.timeout(900 + 30 * KILLS)
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_survives_the_death_of_anything(samples: list[SampleClip], tmp_path: Path) -> None:
    flags = {"engine.backend": "fake", "ray.shards": SHARDS, "ray.clips_per_block": 3}
    flags |= {"ray.decode_tasks": 2, "ray.engine_actors": 2, "media.sampling.rate": 0.5}
    settings = Settings.load(None, flags)
    manifest = chaos_manifest(tmp_path, samples)
    out = tmp_path / "out"
    arguments = ["--manifest", str(manifest)]
    for name, value in flags.items():
        arguments += ["--set", f"{name}={value}"]
    chaos = Chaos([*arguments, "--output"], out, SHARDS, KILLS)
    with (tmp_path / "log").open("wb") as log:
        chaos.run(log)
    print(chaos.told())

    (name,) = RunStore(out).ids()
    run = RunStore(out).open(name)
    found = verify(run)
    assert found.state == "complete", found
    assert found.tagged + found.dead == SHARDS * CLIPS_PER_SHARD
    tables = [pq.ParquetFile(path).read() for path in run.paths()]
    rows = pa.concat_tables(tables).sort_by("clip_id").to_pylist()
    assert rows == unbroken(manifest, settings)

    # And all that while the run was at work.
    shards = len(run.plan.inputs)
    at = [k.commits for k in chaos.killed]
    assert len(at) == KILLS, chaos.told()
    assert all(0 < commits < shards for commits in at), chaos.told()
    assert len(set(at)) > KILLS // 2, chaos.told()
    assert {k.kind for k in chaos.killed} == {"driver", "decoder", "worker", "engine"}
