"""Shards as a Ray dataset: pieces of them go round, and each is read where it is decoded next."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import ray
from ray.data import Dataset

from reelsight.store.objects import Objects
from reelsight.store.split import ShardInput, read_slice

__all__ = ["ShardSource"]

_KEY = ("clip_id", "uri")


class ShardSource:
    """Clips of certain shards, in order of shard, so that few are open at a time.

    Args:
        objects: Where the run lies.
        inputs: The shards, at least one.

    Attributes:
        rows: Number of clips.
        carried: Types of the manifest's further columns; None when there are none.
    """

    def __init__(self, objects: Objects, inputs: Sequence[ShardInput]) -> None:
        self._objects = objects
        self._inputs = inputs
        self.rows = sum(item.expected.rows for item in inputs)
        schema = read_slice(objects.path(inputs[0].path), inputs[0].batch, 0, 0).schema
        extra = [field for field in schema if field.name not in _KEY]
        self.carried = pa.struct(extra) if extra else None

    def read(self, rows_per_block: int) -> Dataset:
        """Blocks of so many clips at most, none with clips of two shards."""
        pieces = [
            {
                "path": self._objects.path(item.path),
                "batch": item.batch,
                "start": start,
                "rows": min(rows_per_block, item.expected.rows - start),
            }
            for item in self._inputs
            for start in range(0, item.expected.rows, rows_per_block)
        ]
        return (
            ray.data.from_arrow(pa.Table.from_pylist(pieces))
            .repartition(target_num_rows_per_block=1)
            .map_batches(read_piece, batch_format="pyarrow", batch_size=None)
        )


def read_piece(pieces: pa.Table) -> pa.Table:
    """Pieces of shards to their clips."""
    return pa.concat_tables(read_slice(**piece) for piece in pieces.to_pylist())
