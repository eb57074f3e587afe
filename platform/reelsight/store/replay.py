"""Replay: the dead letters of one reason, and the commits that take the place of those with them.

A shard's next commit names the files of the one before that have nothing to do with the reason,
what remains of the others, and what the new try wrote. It holds the same clips. Reports of tagged
clips are never copied: they are in files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelsight.errors import QueryError, StoreError
from reelsight.store.commits import Commit, DataFile, commit_of
from reelsight.store.parts import write_rows
from reelsight.store.run import Run
from reelsight.store.split import ShardInput, read_shard, write_shards

__all__ = ["Replay"]


class Replay:
    """Dead letters of one reason, by shard.

    Args:
        run: Whose.
        reason: Code of their error.

    Attributes:
        inputs: Their clips, by shard; empty when there are none.

    Raises:
        StoreError: A file cannot be read or written.
    """

    def __init__(self, run: Run, reason: str) -> None:
        self._run = run
        self._reason = reason
        self._heads = {
            c.shard: c for c in run.log.all() if any(reason in f.failures for f in c.files)
        }
        tables = [self._clips(commit) for commit in self._heads.values()]
        self.inputs: Sequence[ShardInput] = []
        if tables:
            shards = np.repeat([*self._heads], [len(table) for table in tables]).astype(np.int64)
            name = f"runs/{run.run_id}/input/replay-{uuid4().hex[:12]}.arrow"
            self.split, self.inputs = write_shards(
                pa.concat_tables(tables), shards, run.objects, name
            )

    def require(self) -> None:
        """Refuse to replay nothing.

        Raises:
            QueryError: `run.no_such_dead`, with the reasons that there are.
        """
        if not self.inputs:
            there = self._run.record().failures
            raise QueryError(
                f"run {self._run.run_id} has no dead letters of {self._reason!r}; it has "
                f"{there or 'none'}",
                code="run.no_such_dead",
                hint="`reelsight runs` shows the reasons by count.",
            )

    def commit(self, shard: int, files: Sequence[DataFile], attempt: str) -> bool:
        """Commit what a new try made of a shard's dead letters; says whether it counts."""
        run, head = self._run, self._heads[shard]
        whole = [*files]
        for file in head.files:
            if self._reason not in file.failures:
                whole.append(file)
                continue
            rows = self._read(file)
            others = rows.filter(pc.invert(self._of_reason(rows)))
            whole += write_rows(run.objects, run.run_id, shard, attempt, others)
        commit = commit_of(run.run_id, shard, head.generation + 1, attempt, whole)
        if (commit.rows, commit.ids) != (head.rows, head.ids):
            raise StoreError(
                f"the replay of shard {shard} would change its clips",
                code="store.replay_differs",
                hint="Run `reelsight verify`: the run may be damaged.",
            )
        return run.log.offer(commit)

    def close(self) -> None:
        """Remove the split of the replayed clips, which nothing needs any more."""
        if self.inputs:
            self._run.objects.remove(self.split.path)

    def _clips(self, commit: Commit) -> pa.Table:
        """The manifest's rows of a shard's dead letters of the reason."""
        found = [self._read(f) for f in commit.files if self._reason in f.failures]
        ids = pa.concat_arrays(
            [t.filter(self._of_reason(t))["clip_id"].combine_chunks() for t in found]
        )
        (source,) = (item for item in self._run.plan.inputs if item.shard == commit.shard)
        clips = read_shard(self._run.objects, source.path, source.batch)
        return clips.filter(pc.is_in(clips["clip_id"].cast(pa.string()), value_set=ids))

    def _of_reason(self, rows: pa.Table) -> pa.ChunkedArray:
        return pc.equal(pc.struct_field(rows["error"], "code"), self._reason)

    def _read(self, file: DataFile) -> pa.Table:
        try:
            with self._run.objects.open(file.path) as source:
                return pq.ParquetFile(source).read()
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"cannot read {file.path}: {error}",
                code="store.file_damaged",
                hint="Run `reelsight verify`, which names all that is damaged.",
            ) from error
