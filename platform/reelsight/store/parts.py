"""What a worker writes: the Reports of one batch, as Parquet files that no commit names yet."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelsight.store.commits import DataFile
from reelsight.store.ids import hash_ids, ids_digest, shards_of
from reelsight.store.objects import Objects

__all__ = ["write_parts", "write_rows"]

STATUSES = ("tagged", "dead")


def write_parts(
    objects: Objects, run_id: str, shards: int, attempt: str, reports: pa.Table
) -> list[tuple[int, DataFile]]:
    """Write Reports, a file for every shard and status among them.

    Every call takes names of its own, so that a task that is tried again, or another driver,
    replaces nothing.

    Args:
        objects: Where the run lies.
        run_id: The run.
        shards: Into how many shards its manifest is split.
        attempt: Whose work it is.
        reports: Rows of the Report schema, of any shards.

    Returns:
        Shard and file, durable.

    Raises:
        StoreError: A file cannot be written; what was written before it is garbage.
    """
    shard = shards_of(hash_ids(reports["clip_id"]), shards)
    written = []
    for number in sorted(set(shard.tolist())):
        rows = reports.filter(pa.array(shard == number))
        files = write_rows(objects, run_id, number, attempt, rows)
        written += [(number, file) for file in files]
    return written


def write_rows(
    objects: Objects, run_id: str, shard: int, attempt: str, rows: pa.Table
) -> list[DataFile]:
    """Write rows of one shard, a file for each status among them."""
    stem = f"data/{run_id}/{shard:06d}/{attempt}-{uuid4().hex[:12]}"
    parts = [(status, rows.filter(pc.equal(rows["status"], status))) for status in STATUSES]
    return [_write(objects, f"{stem}.{s}.parquet", s, part) for s, part in parts if part.num_rows]


def _write(objects: Objects, name: str, status: str, rows: pa.Table) -> DataFile:
    sink = pa.BufferOutputStream()
    # Embeddings do not compress and are not repeated: a dictionary would only cost time.
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        use_dictionary=["status", "provenance"],
        write_statistics=True,
    )
    content = sink.getvalue()
    objects.put(name, content)
    codes = pc.struct_field(rows["error"], "code").drop_null()
    return DataFile(
        path=name,
        status=status,
        rows=rows.num_rows,
        size_bytes=content.size,
        sha256=sha256(content).hexdigest(),
        ids=ids_digest(hash_ids(rows["clip_id"])),
        frames=pc.sum(pc.list_value_length(rows["frames"])).as_py() or 0,
        failures=dict(Counter(codes.to_pylist())),
    )
