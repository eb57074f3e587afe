"""The stages that run as Ray tasks: decode in front of the engine, report behind it.

They are plain callables for map_batches and hold no state but the plan; the engine stage between
them is `reelsight.engine.EngineWorker` itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pyarrow as pa

from reelsight.nouns.report import Report
from reelsight.nouns.schema import reports_to_table
from reelsight.plan import TaggingPlan
from reelsight.rayx.transit import (
    clip_of,
    embeddings_of,
    failure_of,
    loaded_row,
    timeline_from,
)
from reelsight.steps import ClipRequest, load_clip, report_clip

__all__ = ["DecodeStage", "ReportStage"]


class DecodeStage:
    """Manifest rows to rows with pixels.

    Args:
        plan: What to do to each clip.
        carried: Types of the manifest's further columns.
    """

    def __init__(self, plan: TaggingPlan, carried: pa.StructType | None) -> None:
        self._plan = plan
        self._carried = carried

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        """Yield a one-row table a clip, so that a block of clips is never whole in memory twice."""
        for i in range(batch.num_rows):
            row = batch.slice(i, 1).combine_chunks()
            request = ClipRequest(row["clip_id"][0].as_py(), row["uri"][0].as_py())
            yield loaded_row(load_clip(request, self._plan), self._carry(row))

    def _carry(self, row: pa.Table) -> pa.StructArray | None:
        if self._carried is None:
            return None
        arrays = [row[f.name].combine_chunks().cast(f.type) for f in self._carried]
        return pa.StructArray.from_arrays(arrays, fields=list(self._carried))


class ReportStage:
    """Rows with embeddings to rows of the Report schema, with the stage costs beside them.

    Args:
        plan: What was done to each clip.
        carried: Types of the manifest's further columns.
    """

    def __init__(self, plan: TaggingPlan, carried: pa.StructType | None) -> None:
        self._plan = plan
        self._carried = carried

    def __call__(self, batch: pa.Table) -> pa.Table:
        started = time.perf_counter()
        reports = [self._report(row) for row in batch.to_pylist()]
        table = reports_to_table(reports, self._plan.spec.dim, self._carried)
        for name in ("fetch_s", "decode_s", "engine_s"):
            table = table.append_column(name, batch[name])
        share = (time.perf_counter() - started) / max(1, len(reports))
        return table.append_column("report_s", pa.array([share] * len(reports), pa.float64()))

    def _report(self, row: dict[str, object]) -> Report:
        dim = self._plan.spec.dim
        return report_clip(
            clip_of(row),
            self._plan,
            dict(row["carried"]) if row.get("carried") else {},  # type: ignore[call-overload]
            timeline=timeline_from(row),
            embeddings=embeddings_of(row, dim),
            failure=failure_of(row),
        )
