"""Runs made without Ray, by the very code that workers and drivers use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from reelsight.nouns.clip import Clip
from reelsight.nouns.report import Failure, Provenance, Report, Sampled, Segment, Tag
from reelsight.nouns.schema import reports_to_table
from reelsight.store.manifest import Manifest, write_manifest
from reelsight.store.objects import Objects
from reelsight.store.parts import write_parts
from reelsight.store.run import Run
from reelsight.store.run_plan import ManifestIdentity
from reelsight.store.runs import RunStore
from reelsight.store.split import ShardInput, read_shard
from reelsight.store.tally import ShardTally

PROVENANCE = Provenance("m", "0" * 64, "fake/1/fp32", "1" * 16, "b", "2" * 64, "rate:1", "0.1.0")
DIM = 4
DECIDED = {"model": "m", "bank": "b", "limits.max_side": 8192}


def tagged(clip_id: str, frames: int = 2, **carried: object) -> Report:
    tag = Tag("cat", 0.75, 0.5, 0, (Segment(0, 1000, 0.75, 0),))
    return Report(
        clip=Clip(
            clip_id, f"/{clip_id}.mp4", "a" * 64, 10, 2.0, 64, 48, "h264", "yuv420p", 0, 25.0
        ),
        status="tagged",
        provenance=PROVENANCE,
        tags=(tag,),
        pts=np.arange(frames, dtype=np.float64),
        weights=np.ones(frames),
        embeddings=np.full((frames, DIM), 0.5, dtype=np.float16),
        sampled=Sampled("rate:1", frames, frames, 0.0),
        carried=carried,
    )


def dead(clip_id: str, code: str = "fetch.missing", **carried: object) -> Report:
    failure = Failure("fetch", code, "no such file", "look again")
    return Report(Clip(clip_id, "gone"), "dead", PROVENANCE, failure=failure, carried=dict(carried))


def report_for(clip_id: str) -> Report:
    """The Report that a clip has in every run: dead where its id says so."""
    return dead(clip_id) if clip_id.startswith("dead") else tagged(clip_id)


def table_of(reports: Sequence[Report], kind: pa.StructType | None = None) -> pa.Table:
    carried = None if kind is None else pa.array([r.carried for r in reports], kind)
    return reports_to_table(reports, DIM, carried)


def manifest_of(path: Path, ids: Sequence[str]) -> Path:
    return write_manifest(path, [{"clip_id": name, "uri": f"/{name}"} for name in ids])


def started(root: Path, manifest: Path, shards: int | None = None, new: bool = False) -> Run:
    """The run of a manifest, as a driver finds or starts it."""
    return RunStore(root).resume_or_start(
        DECIDED,
        ManifestIdentity.of(manifest),
        lambda: Manifest.open(manifest),
        shards,
        new=new,
    )


def stored_run(root: Path, *reports: Report, kind: pa.StructType | None = None) -> Run:
    """A complete run of one shard that holds these Reports."""
    root.mkdir(exist_ok=True)
    manifest = manifest_of(root / "manifest.parquet", [r.clip.clip_id for r in reports])
    run = started(root, manifest, 1, new=True)
    attempt = run.begin()
    written = write_parts(run.objects, run.run_id, 1, attempt, table_of(reports, kind))
    assert run.commit(0, [file for _, file in written], attempt)
    run.finish()
    return run


def clips_of(objects: Objects, item: ShardInput) -> list[str]:
    ids: list[str] = read_shard(objects, item.path, item.batch)["clip_id"].to_pylist()
    return ids


def work(run: Run, objects: Objects, attempt: str, rows_per_part: int = 3) -> int:
    """What a driver and its workers do with all pending shards; returns the commits it won."""
    pending = run.pending()
    tally = ShardTally({item.shard: item.expected for item in pending})
    won = 0
    for item in pending:
        ids = clips_of(objects, item)
        for start in range(0, len(ids), rows_per_part):
            rows = table_of([report_for(name) for name in ids[start : start + rows_per_part]])
            for shard, file in write_parts(objects, run.run_id, run.plan.shards, attempt, rows):
                if (files := tally.add(shard, file)) is not None:
                    won += run.commit(shard, files, attempt)
    return won
