"""Manifests: the Parquet files that say which clips to look at.

A manifest has unique, non-empty string columns clip_id and uri; further columns are carried into
the Reports. It is checked as a whole before a run starts, because a doubled id could never be
accounted for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelsight.atomic import write_whole
from reelsight.errors import ManifestError

__all__ = ["Manifest", "write_manifest"]

_KEY = ("clip_id", "uri")
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest.

    Attributes:
        path: The Parquet file.
        rows: Number of clips, at least one.
        carried: Types of the further columns; None when there are none.
        clip_ids: Every id, for accounting.
    """

    path: Path
    rows: int
    carried: pa.StructType | None
    clip_ids: pa.ChunkedArray

    @classmethod
    def open(cls, path: Path) -> Manifest:
        """Read and check a manifest.

        Raises:
            ManifestError: Missing, not Parquet, without the columns, empty, or with null, empty or
                doubled clip_ids.
        """
        if not path.is_file():
            raise ManifestError(f"no manifest file at {path}", code="manifest.missing")
        try:
            schema = pq.read_schema(path)
            _check_columns(schema, path)
            ids = pq.read_table(path, columns=["clip_id"])["clip_id"].cast(pa.string())
        except (pa.ArrowException, OSError) as error:
            raise ManifestError(f"{path} is not a Parquet file: {error}") from error
        _check_ids(ids, path)
        extra = [field for field in schema if field.name not in _KEY]
        return cls(path, len(ids), pa.struct(extra) if extra else None, ids)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows as dicts, in order, a batch in memory at a time."""
        for batch in pq.ParquetFile(self.path).iter_batches():
            yield from batch.to_pylist()


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows with clip_id and uri as a manifest.

    Raises:
        ManifestError: The rows would not make a manifest.
    """
    if not rows:
        raise ManifestError("a manifest needs at least one clip", code="manifest.empty")
    try:
        table = pa.Table.from_pylist(rows)
    except UnicodeEncodeError as error:
        raise ManifestError(f"a name is not valid text: {error.object!r}") from error
    _check_columns(table.schema, path)
    _check_ids(table["clip_id"], path)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    try:
        return write_whole(path, sink.getvalue())
    except OSError as error:
        raise ManifestError(f"cannot write {path}: {error}", code="manifest.unwritable") from error


def _check_columns(schema: pa.Schema, path: Path) -> None:
    missing = [name for name in _KEY if name not in schema.names]
    if missing:
        raise ManifestError(
            f"{path} lacks {missing}; it has {schema.names}", code="manifest.missing_columns"
        )
    doubled = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if doubled:
        raise ManifestError(
            f"{path} has columns named twice: {doubled}", code="manifest.duplicate_columns"
        )
    for name in _KEY:
        kind = schema.field(name).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise ManifestError(
                f"{path}: column {name} must be string, is {kind}", code="manifest.column_type"
            )


def _check_ids(ids: pa.ChunkedArray, path: Path) -> None:
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ManifestError(
            f"{path}: a clip_id is not valid text: {error}", code="manifest.bad_clip_id"
        ) from error
    if not len(ids):
        raise ManifestError(f"{path} has no rows", code="manifest.empty")
    blank = pc.sum(pc.or_kleene(pc.is_null(ids), pc.equal(pc.fill_null(ids, ""), ""))).as_py()
    if blank:
        raise ManifestError(f"{path}: {blank} rows have no clip_id", code="manifest.blank_clip_id")
    counts = pc.value_counts(ids)
    doubled = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(doubled):
        shown = doubled.field("values")[:_SHOWN].to_pylist()
        raise ManifestError(
            f"{path}: {len(doubled)} clip_ids stand more than once, such as {shown}",
            code="manifest.duplicate_clip_ids",
            hint="Every clip needs an id of its own; drop or rename the doubles.",
        )
