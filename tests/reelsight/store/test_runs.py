"""Which run a command goes on with, and what shards and commits are; without Ray."""

from __future__ import annotations

import errno
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reelsight.errors import ManifestError, ReelsightError, RunConflict, RunError, StoreError
from reelsight.plan import TaggingPlan
from reelsight.store import split
from reelsight.store.disk import Disk
from reelsight.store.ids import hash_ids, ids_digest, shards_of, sum_digests
from reelsight.store.manifest import Manifest
from reelsight.store.objects import LocalObjects
from reelsight.store.parts import write_parts
from reelsight.store.retag import source_of
from reelsight.store.run import Run
from reelsight.store.run_plan import ManifestIdentity, RunPlan
from reelsight.store.runs import RunStore
from reelsight.store.tally import Expected, ShardTally
from tests.made_runs import (
    DECIDED,
    clips_of,
    manifest_of,
    report_for,
    started,
    stored_run,
    table_of,
    tagged,
    work,
)

# What file names, SQL, JSON and shells trip over, and ids that differ by their normal form alone.
ODD = ["a/b", "../x", "a b", "'", '"', "é", "e\u0301", "\u202eabc", "\n", "a\0b", "😀", "%s", "."]
NAMES = [f"clip-{i}" for i in range(40)] + ODD


def test_a_split_holds_every_clip_once_and_every_type(tmp_path: Path) -> None:
    bad_text = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
    )
    table = pa.table(
        {
            "uri": ["x", None],
            "late": pa.array([2**62, None], pa.int64()).cast(pa.timestamp("us")),
            "text": bad_text,
            "nothing": pa.nulls(2),
            "kind": pa.array(["u", "v"]).dictionary_encode(),
            "clip_id": ["a", "b"],
        }
    )
    pq.write_table(table, tmp_path / "m")
    run = started(tmp_path / "out", tmp_path / "m", 1)
    (item,) = run.plan.inputs
    again = split.read_shard(run.objects, item.path, item.batch)
    assert again.schema.types == pq.read_schema(tmp_path / "m").types
    assert again.combine_chunks().equals(pq.ParquetFile(tmp_path / "m").read().combine_chunks())


@pytest.mark.parametrize("bucket_rows", [2**19, 7])
def test_shards_are_by_id_alone_however_large_the_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bucket_rows: int
) -> None:
    monkeypatch.setattr(split, "_BUCKET_ROWS", bucket_rows)
    names = NAMES.copy()
    random.Random(3).shuffle(names)
    run = started(tmp_path / "out", manifest_of(tmp_path / "m", names), 9)
    assert len(run.plan.files) == (1 if bucket_rows > 100 else 8)
    found = {item.shard: clips_of(run.objects, item) for item in run.plan.inputs}
    assert sorted(name for names in found.values() for name in names) == sorted(NAMES)
    for item in run.plan.inputs:
        hashes = hash_ids(pa.array(found[item.shard]))
        assert set(shards_of(hashes, 9)) == {item.shard}
        assert item.expected == Expected(len(hashes), ids_digest(hashes))
    # A shard is the same wherever it is computed, today and by the next version.
    assert shards_of(hash_ids(pa.array(["clip-0", "é"])), 1000).tolist() == [664, 51]
    assert [i.shard for i in run.plan.inputs] == sorted(found)


def test_digests_tell_any_set_of_ids_from_any_other() -> None:
    whole = ids_digest(hash_ids(pa.array(NAMES)))
    halves = [ids_digest(hash_ids(pa.array(part))) for part in (NAMES[20:], NAMES[:20])]
    assert sum_digests(halves) == whole
    doubled = [NAMES[1], *NAMES[1:]]
    assert len(doubled) == len(NAMES)
    assert ids_digest(hash_ids(pa.array(doubled))) != whole
    assert ids_digest(np.zeros((0, 2), np.uint64)) == sum_digests([])


def test_a_shard_with_one_clip_lost_and_one_doubled_is_spoilt(tmp_path: Path) -> None:
    objects = LocalObjects(tmp_path)
    tally = ShardTally({0: Expected(3, ids_digest(hash_ids(pa.array(["a", "b", "c"]))))})

    def wrote(*names: str) -> Any:
        ((_, file),) = write_parts(objects, "r", 1, "0001", table_of([tagged(n) for n in names]))
        return file

    assert tally.add(0, wrote("a", "b")) is None
    assert tally.add(0, wrote("b")) is None
    assert len(tally.spoilt) == 2
    assert tally.add(0, wrote("c")) is None
    assert tally.add(7, wrote("z")) is None
    assert len(tally.spoilt) == 4


def test_a_run_goes_on_where_its_commits_end(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "m", NAMES)
    run = started(tmp_path / "out", manifest, 8)
    with pytest.raises(RunError) as caught:
        run.finish()
    assert caught.value.code == "run.incomplete"
    assert not run.complete
    first = run.pending()[0]
    rows = table_of([report_for(name) for name in clips_of(run.objects, first)])
    files = [f for _, f in write_parts(run.objects, run.run_id, 8, run.begin(), rows)]
    assert run.commit(first.shard, files, "0001")
    again = started(tmp_path / "out", manifest)
    assert again.run_id == run.run_id
    assert again.plan == run.plan
    # What is committed is not even looked at.
    assert [item.shard for item in again.pending()] == [i.shard for i in run.plan.inputs[1:]]
    assert work(again, again.objects, again.begin()) == len(run.plan.inputs) - 1
    totals = again.finish()
    assert totals.tagged == len(NAMES)
    assert again.finish() == totals
    # And once it is complete the same command has nothing to do.
    assert started(tmp_path / "out", manifest).complete
    assert started(tmp_path / "out", manifest, new=True).run_id == f"000002{run.run_id[6:]}"


def never() -> Manifest:
    raise AssertionError("a manifest is read again for a new run alone")


def test_a_changed_manifest_or_config_is_refused_by_name(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "m", ["a", "b"])
    run = started(tmp_path / "out", manifest)
    store = RunStore(tmp_path / "out")
    identity = ManifestIdentity.of(manifest)
    with pytest.raises(RunConflict, match=r"bank: was 'b', is 'c'$") as caught:
        store.resume_or_start(DECIDED | {"bank": "c"}, identity, never)
    assert caught.value.code == "run.config_changed"
    assert "--new" in caught.value.hint
    manifest_of(manifest, ["a", "b", "c"])
    with pytest.raises(RunConflict, match="manifest: sha256 was") as caught:
        store.resume_or_start(DECIDED, ManifestIdentity.of(manifest), never)
    assert caught.value.code == "run.manifest_changed"
    # A manifest that was moved is the same one.
    moved = manifest_of(tmp_path / "moved", ["a", "b"])
    assert started(tmp_path / "out", moved).run_id == run.run_id
    # A complete run stands in nobody's way, and an older unfinished one is found again.
    other = started(tmp_path / "out", manifest, new=True)
    work(other, other.objects, other.begin())
    other.finish()
    assert started(tmp_path / "out", moved).run_id == run.run_id


def test_a_plan_says_all_that_decides_a_report(fake_plan: TaggingPlan) -> None:
    decided = fake_plan.decided
    assert json.loads(json.dumps(decided)) == decided
    assert set(decided) >= {"model_hash", "engine_hash", "bank_hash", "sampler", "code_version"}
    other = replace(fake_plan, limits=replace(fake_plan.limits, max_side=1))
    identity = ManifestIdentity("m", "0" * 64)
    assert RunPlan.digest(other.decided, identity) != RunPlan.digest(decided, identity)


def test_a_manifest_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = manifest_of(tmp_path / "m", ["a"])
    identity, checked = ManifestIdentity.of(path), Manifest.open(path)
    manifest_of(path, ["a", "b"])
    store = RunStore(tmp_path / "out")
    with pytest.raises(ManifestError) as caught:
        store.resume_or_start(DECIDED, identity, lambda: checked)
    assert caught.value.code == "manifest.changed"
    assert store.ids() == []
    assert store.objects.names("runs") == []


def test_a_half_written_manifest_starts_nothing(tmp_path: Path) -> None:
    path = manifest_of(tmp_path / "m", NAMES)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ManifestError):
        started(tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_the_first_commit_wins_and_the_loser_clears_up(tmp_path: Path) -> None:
    run = started(tmp_path / "out", manifest_of(tmp_path / "m", ["a"]))
    rows = table_of([tagged("a")])
    tries = [run.begin(), Run(run.objects, run.plan).begin()]
    assert tries == ["0001", "0002"]
    files = [[f for _, f in write_parts(run.objects, run.run_id, 1, t, rows)] for t in tries]
    assert run.commit(0, files[1], tries[1])
    assert not run.commit(0, files[0], tries[0])
    assert run.objects.read(files[0][0].path) is None
    # The same commit again is not lost: it may have got through when its call broke.
    assert run.commit(0, files[1], tries[1])
    assert run.paths() == [run.objects.path(files[1][0].path)]


def test_stores_that_cannot_create_only_if_absent_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        RunStore(Path("s3://bucket/out"))
    assert caught.value.code == "store.no_conditional_create"

    class Fat(Disk):
        def link(self, source: Path, target: Path) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

    manifest = manifest_of(tmp_path / "m", ["a"])
    store = RunStore(tmp_path / "out", LocalObjects(tmp_path / "out", Fat()))
    with pytest.raises(ReelsightError) as refused:
        store.resume_or_start(
            DECIDED, ManifestIdentity.of(manifest), lambda: Manifest.open(manifest)
        )
    assert refused.value.code == "store.no_conditional_create"


def test_no_clock_orders_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([2e9, 1e9, 0.0, *[1e8] * 1000])
    monkeypatch.setattr("time.time", lambda: next(times))
    names = [stored_run(tmp_path, tagged(name)).run_id for name in "abc"]
    assert RunStore(tmp_path).ids() == names == sorted(names)
    assert RunStore(tmp_path).latest().run_id == names[-1]


def test_a_run_without_a_bank_has_nothing_to_retag(tmp_path: Path) -> None:
    run = stored_run(tmp_path / "out", tagged("a"))
    with pytest.raises(RunConflict) as caught:
        source_of(RunStore(tmp_path / "out"), "0" * 64, run.run_id)
    assert caught.value.code == "retag.no_embeddings"
