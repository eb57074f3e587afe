"""The one Arrow schema of a Report, and the struct types of the nouns inside it.

A Report is one row, so a clip is the atom of every write. The version is bumped whenever a reader
could be surprised; it travels in the schema's metadata and so in every file. Version 3 has the
column `marks`; files of runs that read no marks have none, and are of version 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from reelsight.nouns.mark_reading import MarkReading
from reelsight.nouns.report import Report

__all__ = [
    "CLIP_TYPE",
    "FAILURE_TYPE",
    "MARKS_TYPE",
    "MARKS_VERSION",
    "PROVENANCE_TYPE",
    "RECHECKED_TYPE",
    "SAMPLED_TYPE",
    "SCHEMA_VERSION",
    "TAG_TYPE",
    "frame_type",
    "marks_column",
    "report_schema",
    "reports_to_table",
]

SCHEMA_VERSION = "2"
# Of files with the column `marks`.
MARKS_VERSION = "3"

CLIP_TYPE = pa.struct(
    {
        "clip_id": pa.string(),
        "uri": pa.string(),
        "sha256": pa.string(),
        "size_bytes": pa.int64(),
        "duration_s": pa.float64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "codec": pa.string(),
        "pixel_format": pa.string(),
        "rotation": pa.int32(),
        "fps": pa.float64(),
    }
)
SEGMENT_TYPE = pa.struct(
    {
        "start_ms": pa.int64(),
        "end_ms": pa.int64(),
        "score": pa.float32(),
        "best_ms": pa.int64(),
    }
)
TAG_TYPE = pa.struct(
    {
        "label": pa.string(),
        "score": pa.float32(),
        "coverage": pa.float32(),
        "best_ms": pa.int64(),
        "segments": pa.list_(SEGMENT_TYPE),
    }
)
SAMPLED_TYPE = pa.struct(
    {
        "policy": pa.string(),
        "asked": pa.int32(),
        "returned": pa.int32(),
        "max_error_s": pa.float64(),
        "partial": pa.string(),
    }
)
FAILURE_TYPE = pa.struct(
    {
        "stage": pa.string(),
        "code": pa.string(),
        "message": pa.string(),
        "hint": pa.string(),
        "retryable": pa.bool_(),
        "attempts": pa.int32(),
    }
)
PROVENANCE_TYPE = pa.struct(
    {
        name: pa.string()
        for name in (
            "model",
            "model_hash",
            "engine",
            "engine_hash",
            "bank",
            "bank_hash",
            "sampler",
            "code_version",
        )
    }
)
RECHECKED_TYPE = pa.struct(
    {
        "labels": pa.list_(pa.string()),
        "frames": pa.list_(pa.int32()),
        "engine": pa.string(),
        "engine_hash": pa.string(),
    }
)
MARKS_TYPE = pa.struct(
    {
        "carrier": pa.struct({"model": pa.string(), "version": pa.string()}),
        "extractor_sha256": pa.string(),
        "engine": pa.string(),
        "engine_hash": pa.string(),
        "sampled": SAMPLED_TYPE,
        "pts": pa.list_(pa.float64()),
        "quality": pa.list_(pa.float32()),
        # Of each view: presence of each frame, and the soft bits of all frames, frame after frame.
        "attempts": pa.list_(
            pa.struct(
                {
                    "view": pa.string(),
                    "presence": pa.list_(pa.float32()),
                    "soft": pa.list_(pa.float32()),
                }
            )
        ),
        "error": FAILURE_TYPE,
    }
)


def frame_type(dim: int) -> pa.StructType:
    """A sampled frame: pts and the time it stands for in seconds; its embedding, float16 [dim]."""
    return pa.struct(
        {
            "pts": pa.float64(),
            "weight_s": pa.float64(),
            "embedding": pa.list_(pa.float16(), dim),
        }
    )


def report_schema(
    dim: int, carried: pa.StructType | None = None, *, marks: bool = False
) -> pa.Schema:
    """Schema of a table of Reports.

    Args:
        dim: Length of the embeddings.
        carried: Types of the further manifest columns; the column is absent when there are none.
        marks: Whether there is a column of what was read of marks.
    """
    fields = [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("clip", CLIP_TYPE),
        pa.field("tags", pa.list_(TAG_TYPE)),
        pa.field("frames", pa.list_(frame_type(dim))),
        pa.field("sampled", SAMPLED_TYPE),
        pa.field("error", FAILURE_TYPE),
        pa.field("provenance", PROVENANCE_TYPE),
        pa.field("rechecked", RECHECKED_TYPE),
    ]
    if carried is not None:
        fields.append(pa.field("carried", carried))
    if marks:
        fields.append(pa.field("marks", MARKS_TYPE))
    version = MARKS_VERSION if marks else SCHEMA_VERSION
    return pa.schema(fields, metadata={"reelsight.schema_version": version})


def marks_column(readings: Sequence[MarkReading | None]) -> pa.StructArray:
    """What was read of marks in clips, as a column; numbers are kept as they are."""
    return pa.array([None if r is None else r.to_dict() for r in readings], MARKS_TYPE)


def reports_to_table(
    reports: Sequence[Report],
    dim: int,
    carried: pa.StructArray | None = None,
    marks: pa.StructArray | None = None,
) -> pa.Table:
    """Reports as rows of report_schema, in order.

    Args:
        reports: N Reports.
        dim: Length of the embeddings.
        carried: The further manifest columns of the same N clips; never read, only passed on.
        marks: What was read of marks in them, as `marks_column` gives it; None takes it from the
            Reports, where one of them has it.
    """
    if marks is None and any(r.marks is not None for r in reports):
        marks = marks_column([r.marks for r in reports])
    kind = None if carried is None else carried.type
    schema = report_schema(dim, kind, marks=marks is not None)
    columns: dict[str, pa.Array] = {
        "clip_id": pa.array([r.clip.clip_id for r in reports], pa.string()),
        "status": pa.array([r.status for r in reports], pa.string()),
        "clip": pa.array([asdict(r.clip) for r in reports], CLIP_TYPE),
        "tags": pa.array([[asdict(t) for t in r.tags] for r in reports], pa.list_(TAG_TYPE)),
        "frames": _frames_column(reports, dim),
        "sampled": _structs([r.sampled for r in reports], SAMPLED_TYPE),
        "error": _structs([r.failure for r in reports], FAILURE_TYPE),
        "provenance": _structs([r.provenance for r in reports], PROVENANCE_TYPE),
        "rechecked": _structs([r.rechecked for r in reports], RECHECKED_TYPE),
    }
    if carried is not None:
        columns["carried"] = carried
    if marks is not None:
        columns["marks"] = marks
    return pa.table(columns, schema=schema)


def _structs(values: Sequence[Any], kind: pa.StructType) -> pa.Array:
    return pa.array([None if v is None else asdict(v) for v in values], kind)


def _frames_column(reports: Sequence[Report], dim: int) -> pa.Array:
    """All frames as one nested column, built from whole arrays: no Python object a value."""
    counts = [len(r.pts) for r in reports]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    pts = np.concatenate([np.zeros(0), *(r.pts for r in reports)])
    weights = np.concatenate([np.zeros(0), *(r.weights for r in reports)])
    vectors = [r.embeddings.reshape(-1, dim) for r in reports if len(r.pts)]
    flat = np.concatenate(vectors) if vectors else np.zeros((0, dim), dtype=np.float16)
    embeddings = pa.FixedSizeListArray.from_arrays(
        pa.array(flat.astype(np.float16).reshape(-1)), dim
    )
    frames = pa.StructArray.from_arrays(
        [pa.array(pts), pa.array(weights), embeddings], fields=list(frame_type(dim))
    )
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), frames)
