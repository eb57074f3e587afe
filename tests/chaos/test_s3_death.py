"""A backfill on S3 whose driver is killed half-way: the same command gives what a disk gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

pytest.importorskip("botocore", reason="no botocore: make .venv-s3/.done")

from jobs.backfill import backfill
from jobs.replay import replay
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from reelsight.store.location import Location
from reelsight.store.manifest import write_manifest
from reelsight.store.query import query
from reelsight.store.runs import RunStore
from reelsight.store.verify import verify
from tests.chaos.ray_drill import ROOT
from tests.s3_server import s3_server

FLAGS = {"engine.backend": "fake", "ray.shards": 8, "ray.clips_per_block": 3}
FLAGS |= {"media.sampling.rate": 0.5}
CLIPS = 24


@pytest.fixture
def location() -> Iterator[str]:
    with s3_server() as uri:
        yield uri.replace("PREFIX", "out")


def rows_at(output: Location) -> list[dict[str, Any]]:
    run = RunStore(output).latest()
    files = [file for commit in run.commits() for file in commit.files]
    tables = [pq.ParquetFile(run.objects.open(file.path)).read() for file in files]
    rows: list[dict[str, Any]] = pa.concat_tables(tables).sort_by("clip_id").to_pylist()
    return rows


@pytest.mark.usefixtures("ray_cluster")
def test_a_driver_that_dies_on_s3_is_followed_by_the_same_command(
    samples: list[SampleClip], location: str, tmp_path: Path
) -> None:
    late = tmp_path / "late.mp4"
    uris = [str(late) if i % 8 == 7 else str(samples[i % 12].path) for i in range(CLIPS)]
    rows = [{"clip_id": f"clip-{i:02d}", "uri": uri, "asset": i} for i, uri in enumerate(uris)]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    settings = Settings.load(None, FLAGS)
    path = [str(ROOT / "platform"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "tests.chaos.s3_drills", "die", location, str(manifest), "3"]
    died = subprocess.run(
        [*command, *(f"{name}={value}" for name, value in FLAGS.items())],
        capture_output=True,
        check=False,
        env={
            **os.environ,
            "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
            "PYTHONPATH": os.pathsep.join(path),
        },
        cwd=ROOT,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    run = RunStore(location).newest()
    assert verify(run).state == "pending"
    assert run.record().committed == 3

    assert backfill(manifest, location, settings).state == "complete"
    found = verify(RunStore(location).latest())
    assert (found.state, found.tagged, found.dead) == ("complete", 21, 3)
    assert RunStore(location).latest().record().tries == 2
    backfill(manifest, tmp_path / "disk", settings)
    assert rows_at(location) == rows_at(tmp_path / "disk")

    # The cause is mended, on both.
    late.write_bytes(samples[0].path.read_bytes())
    for output in (location, tmp_path / "disk"):
        assert replay(output, "fetch.not_found", settings).dead == 0
    assert rows_at(location) == rows_at(tmp_path / "disk")
    assert query(location, "SELECT count(*) FROM clips WHERE status = 'tagged'").rows == [(CLIPS,)]
