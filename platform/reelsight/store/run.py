"""Runs: what one backfill wrote, and the record that makes it visible.

A run's data files mean nothing until its record names them: readers go by the record, never by
listing. States of a run: absent -> running (record without files) -> failed (the cluster broke) |
complete | unbalanced (record with files and sums). A run that was killed stays `running`; only
complete runs are read by default. Sharded commits, resume and verification will grow here; today
a run is one commit.

Layout of an output directory:

    data/run=<id>/status=tagged/part-*.parquet
    data/run=<id>/status=dead/part-*.parquet
    runs/<id>.json
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelsight.atomic import write_whole
from reelsight.errors import QueryError, StoreError

__all__ = ["DataFile", "RunRecord", "RunStore", "new_run_id", "write_part"]

State = Literal["running", "failed", "complete", "unbalanced"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a run.

    Attributes:
        path: Relative to the output directory.
        status: Partition: tagged or dead.
        rows: Reports in it.
        size_bytes: Its size.
        sha256: Of its bytes, hex.
    """

    path: str
    status: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known of a run.

    Attributes:
        run_id: Start time and config digest.
        state: `complete` when every manifest row has exactly one Report.
        config: What was done, for people and for comparison: plan, manifest, settings.
        files: Data files, in order of path.
        summary: Sums and rates.
        problems: What does not add up; empty when complete.
    """

    run_id: str
    state: State
    config: dict[str, Any]
    files: tuple[DataFile, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def new_run_id(digest: str) -> str:
    """Start time in UTC, to the microsecond, and the config digest; sorts by time."""
    now = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now))
    return f"{stamp}.{int(now % 1 * 1e6):06d}-{digest}"


class RunStore:
    """The runs of one output directory.

    Args:
        root: The output directory; made when the first run starts.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def save(self, record: RunRecord) -> Path:
        """Write a run's record atomically, replacing an earlier state of it."""
        path = self.root / "runs" / f"{record.run_id}.json"
        text = json.dumps(asdict(record), indent=1, sort_keys=True, default=str)
        _write(path, text.encode())
        return path

    def records(self) -> list[RunRecord]:
        """Every run, oldest first.

        Raises:
            StoreError: A record is damaged.
        """
        return [self._load(path) for path in sorted((self.root / "runs").glob("*.json"))]

    def latest(self, run_id: str | None = None) -> RunRecord:
        """The newest complete run, or the one asked for.

        Raises:
            QueryError: There is none.
        """
        records = self.records()
        if run_id is not None:
            found = [r for r in records if r.run_id == run_id and r.files]
        else:
            found = [r for r in records if r.state == "complete"]
        if not found:
            states = {r.run_id: r.state for r in records}
            raise QueryError(
                f"no {'complete run' if run_id is None else f'finished run {run_id!r}'} in "
                f"{self.root}; runs there: {states or 'none'}",
                code="store.no_run",
                hint="Run `reelsight backfill --manifest ... --output` into this directory first.",
            )
        return found[-1]

    def paths(self, record: RunRecord) -> list[Path]:
        """Absolute paths of a run's data files."""
        return [(self.root / file.path).absolute() for file in record.files]

    def problems(self, record: RunRecord, expected: pa.ChunkedArray) -> tuple[str, ...]:
        """What keeps a run from holding exactly one Report for every id; empty when nothing does.

        Args:
            record: The run, with its files.
            expected: string, the manifest's clip_ids, unique.

        Raises:
            StoreError: A file that was written is not there, or cannot be read.
        """
        tables = [self._ids(file) for file in record.files]
        chunks = [chunk for table in tables for chunk in table["clip_id"].chunks]
        written = pa.chunked_array(chunks, type=pa.string())
        found = [
            f"{file.path} has {table.num_rows} rows, {file.rows} were written"
            for file, table in zip(record.files, tables, strict=True)
            if table.num_rows != file.rows
        ]
        counts = pc.value_counts(written)
        doubled = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        for what, ids in (
            ("lost", _without(expected, written)),
            ("not in the manifest", _without(written, expected)),
            ("written more than once", doubled),
        ):
            if len(ids):
                found.append(f"{len(ids)} clips {what}, such as {ids[:3].to_pylist()}")
        return tuple(found)

    def _ids(self, file: DataFile) -> pa.Table:
        try:
            return pq.read_table(self.root / file.path, columns=["clip_id"], partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"cannot read back {file.path}: {error}",
                code="store.missing_file",
                hint="Is the output directory the same, under the same path, on every node?",
            ) from error

    @staticmethod
    def _load(path: Path) -> RunRecord:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            files = tuple(DataFile(**item) for item in document.pop("files"))
            problems = tuple(document.pop("problems"))
            return RunRecord(**document, files=files, problems=problems)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is not a run record: {error!r}") from error


def write_part(root: Path, run_id: str, part: int, status: str, table: pa.Table) -> DataFile:
    """Write one partition of one part of a run.

    The name depends on the part alone, so a task that is tried again replaces what it wrote before.

    Args:
        root: The output directory.
        run_id: The run.
        part: Number of the write task.
        status: Partition: tagged or dead.
        table: Reports of that status.

    Raises:
        StoreError: The file cannot be written.
    """
    relative = f"data/run={run_id}/status={status}/part-{part:06d}.parquet"
    sink = pa.BufferOutputStream()
    # Embeddings do not compress and are not repeated: a dictionary would only cost time.
    pq.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=["status", "provenance"],
        write_statistics=True,
    )
    content = sink.getvalue()
    _write(root / relative, content)
    digest = hashlib.sha256(content).hexdigest()
    return DataFile(relative, status, table.num_rows, content.size, digest)


def _write(path: Path, content: Any) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}", code="store.unwritable") from error


def _without(ids: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
    return ids.filter(pc.invert(pc.is_in(ids, value_set=others.combine_chunks())))
