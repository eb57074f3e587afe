"""The sink: Report rows to a run's Parquet files, and the sums that account for them.

A write task returns what it wrote; nothing becomes visible until the driver has put it into the
run's record. This is where sharded commits will replace the single one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from ray.data import Datasink
from ray.data.block import Block, BlockAccessor
from ray.data.datasource.datasink import WriteResult

from reelsight.rayx.transit import COSTS
from reelsight.store.run import DataFile, write_part

__all__ = ["ReportSink", "Written"]

_ROWS_PER_WRITE = 512


@dataclass(slots=True)
class Written:
    """What one or more write tasks wrote.

    Attributes:
        files: Data files.
        rows: Reports by status.
        frames: Frames embedded in tagged clips.
        failures: Dead letters by code.
        costs: Seconds by stage, summed over clips.
    """

    files: list[DataFile] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    frames: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    costs: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COSTS, 0.0))

    def add(self, other: Written) -> None:
        """Sum another's counts into this one."""
        self.files += other.files
        self.rows += other.rows
        self.frames += other.frames
        self.failures += other.failures
        for name, seconds in other.costs.items():
            self.costs[name] += seconds


class ReportSink(Datasink[Written]):  # type: ignore[misc]
    """Writes Reports partitioned by status.

    Args:
        root: The output directory, seen by every node.
        run_id: The run.
    """

    def __init__(self, root: Path, run_id: str) -> None:
        self._root = root
        self._run_id = run_id
        self.written = Written()

    @property
    def min_rows_per_write(self) -> int:
        return _ROWS_PER_WRITE

    def get_name(self) -> str:
        return "Reports"

    def write(self, blocks: Iterable[Block], ctx: Any) -> Written:
        tables = [BlockAccessor.for_block(block).to_arrow() for block in blocks]
        written = Written()
        table = pa.concat_tables([t for t in tables if t.num_rows]) if tables else None
        if table is None or not table.num_rows:
            return written
        for name in COSTS:
            written.costs[name] = pc.sum(table[name]).as_py() or 0.0
        reports = table.drop_columns(list(COSTS))
        for status in ("tagged", "dead"):
            part = reports.filter(pc.equal(reports["status"], status))
            if part.num_rows:
                written.files.append(
                    write_part(self._root, self._run_id, ctx.task_idx, status, part)
                )
                written.rows[status] = part.num_rows
        written.frames = pc.sum(pc.list_value_length(reports["frames"])).as_py() or 0
        codes = pc.struct_field(reports["error"], "code").drop_null()
        written.failures.update(codes.to_pylist())
        return written

    def on_write_complete(self, write_result: WriteResult[Written]) -> None:
        for written in write_result.write_returns:
            self.written.add(written)
