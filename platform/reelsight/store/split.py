"""The manifest, split by hash of clip_id into the shards of a run; written once, read by shards.

A split is a few Arrow IPC files with one record batch a shard: a worker reads the batch it needs
and nothing else, and every type that Arrow has comes back as it was. A manifest of any length is
split with one bucket of it in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reelsight.errors import StoreError
from reelsight.store.ids import hash_ids, ids_digest, shards_of
from reelsight.store.objects import Objects
from reelsight.store.tally import Expected

__all__ = ["ShardInput", "SplitFile", "copy_split", "read_shard", "split_manifest", "write_shards"]

_BUCKET_ROWS = 2**19


@dataclass(frozen=True, slots=True)
class SplitFile:
    """One file of a split.

    Attributes:
        path: Relative to the output directory.
        rows: Clips in it.
        sha256: Of its bytes, hex.
    """

    path: str
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ShardInput:
    """Where the clips of a shard are, and what they are.

    Attributes:
        shard: Its number.
        path: File of the split, relative to the output directory.
        batch: Number of the record batch in it.
        expected: Rows and digest of ids.
    """

    shard: int
    path: str
    batch: int
    expected: Expected


def split_manifest(
    path: Path, rows: int, objects: Objects, prefix: str, shards: int
) -> tuple[tuple[SplitFile, ...], list[ShardInput]]:
    """Split a manifest.

    Args:
        path: A checked manifest.
        rows: How many clips it has.
        objects: Where the split goes.
        prefix: What its files' names begin with.
        shards: Into how many shards.

    Returns:
        The files, and the shards that have clips, in order.

    Raises:
        StoreError: It cannot be written.
    """
    buckets = min(shards, -(-rows // _BUCKET_ROWS))
    files: list[SplitFile] = []
    inputs: list[ShardInput] = []
    with tempfile.TemporaryDirectory(prefix="reelsight-") as away:
        for number, table in enumerate(_bucketed(path, shards, buckets, Path(away))):
            shard = shards_of(hash_ids(table["clip_id"]), shards)
            file, found = write_shards(table, shard, objects, f"{prefix}-{number:04d}.arrow")
            files.append(file)
            inputs += found
    return tuple(files), inputs


def write_shards(
    table: pa.Table, shard: np.ndarray[tuple[int], np.dtype[np.int64]], objects: Objects, name: str
) -> tuple[SplitFile, list[ShardInput]]:
    """Write rows as one record batch a shard.

    Args:
        table: Rows with a clip_id.
        shard: int64 [N], the shard of each.
        objects: Where the file goes.
        name: Its name.
    """
    order = np.argsort(shard, kind="stable")
    ordered = table.take(pa.array(order)).combine_chunks()
    hashes = hash_ids(ordered["clip_id"])
    numbers, starts = np.unique(shard[order], return_index=True)
    ends = [*starts[1:].tolist(), len(ordered)]
    sink = pa.BufferOutputStream()
    inputs = []
    with pa.ipc.new_file(sink, ordered.schema) as writer:
        for i, (number, start, end) in enumerate(
            zip(numbers.tolist(), starts.tolist(), ends, strict=True)
        ):
            (batch,) = ordered.slice(start, end - start).combine_chunks().to_batches()
            writer.write_batch(batch)
            expected = Expected(end - start, ids_digest(hashes[start:end]))
            inputs.append(ShardInput(number, name, i, expected))
    content = sink.getvalue()
    objects.put(name, content)
    return SplitFile(name, len(ordered), sha256(content).hexdigest()), inputs


def copy_split(
    objects: Objects, files: Sequence[SplitFile], inputs: Sequence[ShardInput], prefix: str
) -> tuple[tuple[SplitFile, ...], tuple[ShardInput, ...]]:
    """Copy a split, a file of it in memory at a time.

    Args:
        objects: Where it lies, and where the copy goes.
        files: Its files.
        inputs: Its shards.
        prefix: What the names of the copies begin with.

    Raises:
        StoreError: `store.input_damaged`: a file is not there, or not what was written.
    """
    names: dict[str, str] = {}
    for number, file in enumerate(files):
        content = objects.read(file.path)
        if content is None or sha256(content).hexdigest() != file.sha256:
            raise StoreError(
                f"{file.path} is {'gone' if content is None else 'not what was written'}",
                code="store.input_damaged",
                hint="Run `reelsight verify` on the run that it is of.",
            )
        names[file.path] = f"{prefix}-{number:04d}.arrow"
        objects.put(names[file.path], content)
    copies = tuple(replace(file, path=names[file.path]) for file in files)
    return copies, tuple(replace(item, path=names[item.path]) for item in inputs)


def read_shard(objects: Objects, name: str, batch: int) -> pa.Table:
    """Clips of a shard.

    Args:
        objects: Where the run lies.
        name: File of a split.
        batch: Number of the record batch.

    Raises:
        StoreError: `store.input_damaged`: it is not there, or not what was written.
    """
    try:
        with objects.open(name) as source:
            # What was read is a copy: nothing of it refers to the file.
            return pa.Table.from_batches([pa.ipc.open_file(source).get_batch(batch)])
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"cannot read the split {objects.path(name)}: {error}",
            code="store.input_damaged",
            hint="Is the output directory the same, under the same path, on every node?",
        ) from error


def _bucketed(path: Path, shards: int, buckets: int, away: Path) -> Iterator[pa.Table]:
    """The manifest in tables that hold whole shards, in order of shard."""
    # Whatever its directories are called, it is one file without partitions.
    if buckets == 1:
        yield pq.ParquetFile(path).read()
        return
    names = [away / f"{i}.arrow" for i in range(buckets)]
    source = pq.ParquetFile(path)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pa.ipc.new_stream(str(name), source.schema_arrow)) for name in names
        ]
        for batch in source.iter_batches():
            bucket = shards_of(hash_ids(batch["clip_id"]), shards) * buckets // shards
            for number in np.unique(bucket).tolist():
                writers[number].write_batch(batch.take(pa.array(np.flatnonzero(bucket == number))))
    for name in names:
        with pa.ipc.open_stream(str(name)) as stream:
            yield stream.read_all()
        name.unlink()
