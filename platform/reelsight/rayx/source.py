"""Shards as a Ray dataset: their places go round, and each is read by a worker."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import ray
from ray.data import Dataset

from reelsight.store.objects import Objects
from reelsight.store.split import ShardInput, read_shard

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
        schema = read_shard(objects, inputs[0].path, inputs[0].batch).schema
        extra = [field for field in schema if field.name not in _KEY]
        self.carried = pa.struct(extra) if extra else None

    def read(self, rows_per_block: int) -> Dataset:
        """Blocks of so many clips at most."""
        places = [{"name": i.path, "batch": i.batch} for i in self._inputs]
        return (
            ray.data.from_arrow(pa.Table.from_pylist(places))
            .repartition(target_num_rows_per_block=1)
            .map_batches(
                read_shards,
                fn_kwargs={"objects": self._objects},
                batch_format="pyarrow",
                batch_size=None,
            )
            .repartition(target_num_rows_per_block=rows_per_block)
        )


def read_shards(places: pa.Table, objects: Objects) -> pa.Table:
    """Places of shards to their clips."""
    return pa.concat_tables(read_shard(objects, **place) for place in places.to_pylist())
