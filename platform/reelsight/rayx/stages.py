"""The stages that run as Ray tasks: decode in front of the engine, report behind it.

They are plain functions for map_batches; the engine stage between them is
`reelsight.engine.EngineWorker` itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from reelsight.media.decoder import Decoder, Decoding, open_decoder
from reelsight.media.sampler import Sampling
from reelsight.nouns.report import Failure, Report, Sampled
from reelsight.nouns.schema import reports_to_table
from reelsight.plan import ScanPlan, TaggingPlan
from reelsight.rayx.transit import (
    clip_of,
    embeddings_of,
    failure_of,
    loaded_row,
    scan_row,
    timeline_from,
)
from reelsight.steps import ClipRequest, load_clip, report_clip
from reelsight.tagging import dead_report

__all__ = ["decode_clips", "report_clips"]

# A scan has no embeddings; their column has to have some length.
_NO_DIM = 1


def decode_clips(
    batch: pa.Table, plan: TaggingPlan | ScanPlan, carried: pa.StructType | None
) -> Iterator[pa.Table]:
    """Manifest rows to rows with pixels: a one-row table a clip.

    Args:
        batch: `clip_id`, `uri` and the columns of `carried`.
        plan: What to do to each clip.
        carried: Types of the manifest's further columns.

    Raises:
        RunError: This machine cannot decode any clip.
        ConfigError: Nor with the backend that the settings name.
    """
    decoder = _decoder(plan.decoding, plan.sampling)
    for i in range(batch.num_rows):
        row = batch.slice(i, 1).combine_chunks()
        request = ClipRequest(row["clip_id"][0].as_py(), _text(row["uri"][0]))
        loaded, kept = load_clip(request, plan, decoder), _carry(row, carried)
        if isinstance(plan, ScanPlan):
            yield scan_row(loaded, kept)
        else:
            yield loaded_row(loaded, kept, marks=plan.marks is not None)


@lru_cache(maxsize=1)
def _decoder(decoding: Decoding, sampling: Sampling) -> Decoder:
    """The decoder of this worker process, which runs one decode task at a time.

    Ray tells a task's process neither when its last task is over nor when it is killed; so the
    decoder stays for the next task, and ends with the process, however that ends.
    """
    return open_decoder(decoding, sampling)


def report_clips(batch: pa.Table, plan: TaggingPlan | ScanPlan) -> pa.Table:
    """Rows with embeddings to rows of the Report schema, with the stage costs beside them.

    Args:
        batch: As the engine stage gives it.
        plan: What was done to each clip.
    """
    started = time.perf_counter()
    # What a manifest carries is passed on as it came: values that Python cannot hold are no reason
    # to lose a clip.
    passed = [name for name in ("carried", "marks") if name in batch.column_names]
    carried, marks = (
        batch[name].combine_chunks() if name in passed else None for name in ("carried", "marks")
    )
    known = batch.drop_columns(passed)
    if isinstance(plan, ScanPlan):
        told = (pc.struct_field(marks, name).to_pylist() for name in ("error", "sampled"))
        rows = zip(known.to_pylist(), *told, strict=True)
        reports = [_scan_report(row, error, sampled, plan) for row, error, sampled in rows]
        table = reports_to_table(reports, _NO_DIM, carried, marks)
    else:
        reports = [_report(row, plan) for row in known.to_pylist()]
        table = reports_to_table(reports, plan.spec.dim, carried, marks)
    for name in ("fetch_s", "decode_s", "engine_s"):
        table = table.append_column(name, batch[name])
    share = (time.perf_counter() - started) / max(1, len(reports))
    return table.append_column("report_s", pa.array([share] * len(reports), pa.float64()))


def _report(row: dict[str, Any], plan: TaggingPlan) -> Report:
    return report_clip(
        clip_of(row),
        plan,
        {},
        timeline=timeline_from(row),
        embeddings=embeddings_of(row, plan.spec.dim),
        failure=failure_of(row),
    )


def _scan_report(
    row: dict[str, Any],
    error: dict[str, Any] | None,
    sampled: dict[str, Any] | None,
    plan: ScanPlan,
) -> Report:
    """A clip whose marks were read; its reading is passed on beside."""
    failure = failure_of(row) or (Failure(**error) if error is not None else None)
    if failure is not None:
        return dead_report(clip_of(row), failure, provenance=plan.provenance, carried={})
    looked = None if sampled is None else Sampled(**sampled)
    return Report(clip_of(row), "tagged", plan.provenance, sampled=looked)


def _carry(row: pa.Table, carried: pa.StructType | None) -> pa.StructArray | None:
    if carried is None:
        return None
    arrays = [row[f.name].combine_chunks().cast(f.type) for f in carried]
    return pa.StructArray.from_arrays(arrays, fields=list(carried))


def _text(value: pa.StringScalar) -> str | None:
    """A uri as text; bytes that are none become a uri that cannot be found."""
    buffer = value.as_buffer()
    return None if buffer is None else buffer.to_pybytes().decode("utf-8", errors="replace")
