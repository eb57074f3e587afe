"""The sink: Report rows to files on the workers, and commits on the driver as shards become whole.

A write task keeps nothing: it writes the rows it was given under names of its own, makes them
durable, and says what it wrote. The driver counts, and commits a shard when all of it is there. So
a worker that dies costs what it had in hand, and its task is tried again; a driver that dies costs
the shards that were not whole yet. One execution runs through all shards, and its engines stay.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Dataset

from reelsight.errors import RunError, StoreError
from reelsight.rayx.transit import COSTS
from reelsight.store.commits import DataFile, Totals
from reelsight.store.objects import Objects
from reelsight.store.parts import write_parts
from reelsight.store.tally import ShardTally

__all__ = ["DeadLimit", "Progress", "Writing", "commit_shards"]

_ROWS_PER_WRITE = 512


@dataclass(frozen=True, slots=True)
class Writing:
    """What write tasks have to know.

    Attributes:
        objects: Where the run lies.
        run_id: The run.
        shards: Into how many shards its manifest is split.
        attempt: Whose work it is.
    """

    objects: Objects
    run_id: str
    shards: int
    attempt: str


@dataclass(frozen=True, slots=True)
class DeadLimit:
    """When a run stops itself: something is wrong that is not the clips.

    Attributes:
        share: Largest share of dead letters among the clips of this try, 0..1.
        least: Smallest number of dead letters that it is judged by.
    """

    share: float
    least: int


@dataclass(slots=True)
class Progress:
    """What one try did.

    Attributes:
        totals: Reports that were written, whether their shards were committed or not.
        costs: Seconds by stage, summed over clips.
        won: Shards whose commit is this try's.
        lost: Shards that another driver committed first.
        spoilt: Files that fitted into no shard.
    """

    totals: Totals = field(default_factory=Totals)
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))
    won: int = 0
    lost: int = 0
    spoilt: int = 0

    @property
    def clips(self) -> int:
        return self.totals.tagged + self.totals.dead

    def require_fewer_dead(self, limit: DeadLimit) -> None:
        """Stop where too many clips are dead letters.

        Raises:
            RunError: `run.too_many_dead`, with the reasons by count.
        """
        dead = self.totals.dead
        if dead < limit.least or dead <= limit.share * self.clips:
            return
        reasons = ", ".join(f"{n} x {code}" for code, n in self.totals.failures.items())
        raise RunError(
            f"stopped: {dead} of {self.clips} clips are dead letters ({dead / self.clips:.0%}; "
            f"ray.max_dead_share is {limit.share}): {reasons}",
            code="run.too_many_dead",
            hint="Mend the cause and run the same command again, then `reelsight replay` what is "
            "committed; or raise ray.max_dead_share.",
        )


def commit_shards(
    reports: Dataset,
    writing: Writing,
    tally: ShardTally,
    commit: Callable[[int, Sequence[DataFile]], bool],
    progress: Progress,
    limit: DeadLimit,
) -> None:
    """Run a dataset of Reports to its end, committing each shard as soon as it is whole.

    Args:
        reports: Report rows with the stage costs beside them, of any shards in any order.
        writing: Where they go.
        tally: What each shard must hold.
        commit: Commits a shard; says whether its commit counts.
        progress: Summed up as it goes.
        limit: When to stop.

    Raises:
        RunError: `run.too_many_dead`.
        StoreError: A commit cannot be written.
    """
    mean = sum(e.rows for e in tally.expected.values()) / max(1, len(tally.expected))
    wrote = reports.map_batches(
        write_reports,
        fn_kwargs={"writing": writing},
        batch_format="pyarrow",
        # Larger files than the blocks that come, but no larger than a shard: it would wait for
        # the next.
        batch_size=max(1, min(_ROWS_PER_WRITE, int(mean))),
    )
    for shard, file in _parts(wrote, progress):
        progress.totals += Totals.of([file])
        if (files := tally.add(shard, file)) is not None:
            if commit(shard, files):
                progress.won += 1
            else:
                progress.lost += 1
        progress.require_fewer_dead(limit)
    progress.spoilt += len(tally.spoilt)
    for file in tally.spoilt:
        writing.objects.remove(file.path)


def write_reports(batch: pa.Table, writing: Writing) -> pa.Table:
    """Report rows to files; returns one row that says which.

    Args:
        batch: Rows of the Report schema, with the stage costs beside them.
        writing: Where they go.
    """
    costs: Mapping[str, float] = {name: pc.sum(batch[name]).as_py() or 0.0 for name in COSTS}
    reports = batch.drop_columns(list(COSTS))
    w = writing
    try:
        parts = write_parts(w.objects, w.run_id, w.shards, w.attempt, reports)
    except StoreError as error:
        # Ray carries an error home as text, and its code would not be in it.
        error.add_note(f"code: {error.code}")
        raise
    told = {"costs": costs, "parts": [[shard, asdict(file)] for shard, file in parts]}
    return pa.table({"wrote": [json.dumps(told)]})


def _parts(wrote: Dataset, progress: Progress) -> Iterator[tuple[int, DataFile]]:
    """Shard and file, as they are written."""
    for batch in wrote.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for text in batch["wrote"].to_pylist():
            told: dict[str, Any] = json.loads(text)
            costs = Counter(progress.costs)
            costs.update(told["costs"])
            progress.costs = dict(costs)
            for shard, file in told["parts"]:
                yield shard, DataFile(**file)
