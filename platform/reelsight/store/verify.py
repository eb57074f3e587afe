"""Whether a run is what it says: manifest = tagged + dead + pending, by ids and by every byte.

Works shard by shard and holds the ids of one at a time. It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelsight.errors import ManifestError, StoreError
from reelsight.store.commits import Commit, DataFile
from reelsight.store.ids import hash_ids, ids_digest, sum_digests
from reelsight.store.run import Run
from reelsight.store.run_plan import ManifestIdentity
from reelsight.store.split import ShardInput, read_shard

__all__ = ["Finding", "Verification", "verify"]

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of damage in one place.

    Attributes:
        code: What kind: input_missing, input_damaged, split_differs, commit_damaged,
            commit_foreign, commit_differs, file_missing, file_damaged, rows_differ, ids_lost,
            ids_foreign, ids_doubled, success_damaged or success_differs.
        where: The object.
        message: What is wrong with it.
    """

    code: str
    where: str
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        run_id: The run.
        rows: Clips of the manifest.
        tagged: Rows that were read and are.
        dead: Dead letters that were read.
        pending: Clips of shards without a commit.
        files: Data files that were hashed.
        manifest: Whether the manifest's file is still the `same`, `changed`, or `gone`.
        findings: Damage.
        garbage: Objects that no commit names: of workers and drivers that died. They cost space.
    """

    run_id: str
    rows: int
    tagged: int
    dead: int
    pending: int
    files: int
    manifest: Literal["same", "changed", "gone"]
    findings: tuple[Finding, ...]
    garbage: tuple[str, ...]

    @property
    def state(self) -> Literal["complete", "pending", "damaged"]:
        """`damaged`, else `pending` when clips wait, else `complete`."""
        if self.findings or self.tagged + self.dead + self.pending != self.rows:
            return "damaged"
        return "pending" if self.pending else "complete"


def verify(run: Run) -> Verification:
    """Read all of a run and hold it against its plan."""
    manifest, findings = _manifest(run)
    findings += _inputs(run)
    heads = run.log.heads()
    named: set[str] = set()
    for shard in sorted(set(heads) - {item.shard for item in run.plan.inputs}):
        where = f"shard {shard:06d}"
        findings.append(Finding("commit_foreign", where, "the manifest has no clip in it"))
    rows = {"tagged": 0, "dead": 0}
    pending = files = 0
    for source in run.plan.inputs:
        if source.shard not in heads:
            pending += source.expected.rows
            continue
        try:
            commits = [run.log.read(source.shard, g) for g in range(heads[source.shard] + 1)]
        except StoreError as error:
            where = f"shard {source.shard:06d}"
            findings.append(Finding("commit_damaged", where, error.message))
            # Nobody knows which of its files counted.
            named.update(run.objects.names(f"data/{run.run_id}/{source.shard:06d}"))
            continue
        named.update(file.path for commit in commits for file in commit.files)
        whole = []
        for file in commits[-1].files:
            files += 1
            if (table := _table(run, file, findings)) is not None:
                rows[file.status] += table.num_rows
                whole.append(table)
        findings += _shard(run, source, commits[-1], whole)
    findings += _success(run, pending)
    named.update(file.path for file in run.plan.files)
    below = (f"data/{run.run_id}", f"runs/{run.run_id}")
    objects = [name for prefix in below for name in run.objects.names(prefix)]
    garbage = [n for n in objects if n not in named and not n.endswith((".json", "/_SUCCESS"))]
    return Verification(
        run.run_id,
        run.plan.rows,
        rows["tagged"],
        rows["dead"],
        pending,
        files,
        manifest,
        tuple(findings),
        tuple(garbage),
    )


def _manifest(run: Run) -> tuple[Literal["same", "changed", "gone"], list[Finding]]:
    """The manifest against the split, where it is still there."""
    path = Path(run.plan.manifest.path)
    try:
        if ManifestIdentity.of(path).sha256 != run.plan.manifest.sha256:
            return "changed", []
    except ManifestError:
        return "gone", []
    batches = pq.ParquetFile(path).iter_batches(columns=["clip_id"])
    digest = sum_digests(ids_digest(hash_ids(batch["clip_id"])) for batch in batches)
    if digest == sum_digests(item.expected.ids for item in run.plan.inputs):
        return "same", []
    return "same", [Finding("split_differs", str(path), "the shards are not the manifest's clips")]


def _inputs(run: Run) -> Iterator[Finding]:
    for file in run.plan.files:
        content = run.objects.read(file.path)
        if content is None:
            yield Finding("input_missing", file.path, "a file of the split is not there")
        elif sha256(content).hexdigest() != file.sha256:
            yield Finding("input_damaged", file.path, "its bytes are not what was written")


def _table(run: Run, file: DataFile, findings: list[Finding]) -> pa.Table | None:
    """clip_id and status of a data file, if its bytes are what was written."""
    content = run.objects.read(file.path)
    if content is None:
        findings.append(Finding("file_missing", file.path, f"{file.rows} rows are not there"))
        return None
    if sha256(content).hexdigest() != file.sha256:
        findings.append(Finding("file_damaged", file.path, "its bytes are not what was written"))
        return None
    table = pq.ParquetFile(pa.BufferReader(content)).read(columns=["clip_id", "status"])
    others = pc.sum(pc.not_equal(table["status"], file.status)).as_py() or 0
    if table.num_rows != file.rows or others:
        said = f"{table.num_rows} rows, {others} of another status; {file.rows} {file.status}"
        findings.append(Finding("rows_differ", file.path, f"it has {said} were committed"))
    return table


def _shard(
    run: Run, source: ShardInput, commit: Commit, tables: list[pa.Table]
) -> Iterator[Finding]:
    """A commit and its rows against the split."""
    where = f"shard {source.shard:06d}"
    if (commit.rows, commit.ids) != (source.expected.rows, source.expected.ids):
        yield Finding("commit_differs", where, f"{commit.rows} of {source.expected.rows} clips")
    try:
        asked = read_shard(run.objects, source.path, source.batch)["clip_id"]
    except StoreError as error:
        if error.code == "store.unreadable":
            raise
        return  # Its file is named already.
    wanted = asked.combine_chunks().cast(pa.string())
    chunks = [chunk for table in tables for chunk in table["clip_id"].chunks]
    found = pa.chunked_array(chunks, pa.string()).combine_chunks()
    counts = pc.value_counts(found)
    for code, ids in (
        ("ids_lost", _without(wanted, found)),
        ("ids_foreign", _without(found, wanted)),
        ("ids_doubled", counts.filter(pc.greater(counts.field("counts"), 1)).field("values")),
    ):
        if len(ids):
            shown = ids[:_SHOWN].to_pylist()
            yield Finding(code, where, f"{len(ids)} clips, such as {shown}")


def _success(run: Run, pending: int) -> Iterator[Finding]:
    where = f"runs/{run.run_id}/_SUCCESS"
    try:
        success = run.success()
    except StoreError as error:
        yield Finding("success_damaged", where, error.message)
        return
    if success is None:
        return
    inputs, tagged, dead = (int(success.get(name, -1)) for name in ("inputs", "tagged", "dead"))
    if pending or inputs != run.plan.rows or tagged + dead != inputs:
        said = f"{inputs} = {tagged} tagged + {dead} dead"
        told = f"it says {said}; the manifest has {run.plan.rows} clips, {pending} are pending"
        yield Finding("success_differs", where, told)


def _without(ids: pa.Array, others: pa.Array) -> pa.Array:
    return ids.filter(pc.invert(pc.is_in(ids, value_set=others)))
