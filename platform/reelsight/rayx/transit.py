"""The rows that travel between the stages of a Ray Data job.

One row is one clip, from the manifest to the Report. All of a clip's sampled pixels are one
large_binary value, so a row crosses the object store with one copy and is never regrouped. The
clip_id travels in every row and is checked on the way out.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reelsight.copies.worker import MARK_COLUMNS, looked_at
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames
from reelsight.nouns.report import Failure, Sampled
from reelsight.nouns.schema import CLIP_TYPE, FAILURE_TYPE, SAMPLED_TYPE
from reelsight.steps import LoadedClip, timeline_of
from reelsight.tagging import Timeline

__all__ = [
    "COSTS",
    "clip_of",
    "embeddings_of",
    "failure_of",
    "loaded_row",
    "scan_row",
    "timeline_from",
]

# Seconds spent on a clip in each stage; they ride along and are summed, not stored.
COSTS = ("fetch_s", "decode_s", "engine_s", "report_s")


def loaded_row(
    loaded: LoadedClip, carried: pa.StructArray | None, *, marks: bool = False
) -> pa.Table:
    """A loaded clip as a one-row table.

    Args:
        loaded: The clip.
        carried: Its further manifest columns.
        marks: Whether the plan's second look, of the marks, goes with it.
    """
    columns = _frame_columns(loaded)
    if marks:
        columns |= _mark_columns(loaded.beside)
    return _row(loaded, columns, carried)


def scan_row(loaded: LoadedClip, carried: pa.StructArray | None) -> pa.Table:
    """A clip that was loaded for its marks alone as a one-row table."""
    return _row(loaded, _mark_columns(loaded.frames), carried)


def _row(
    loaded: LoadedClip, looks: dict[str, pa.Array], carried: pa.StructArray | None
) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "clip_id": pa.array([loaded.clip.clip_id], pa.string()),
        "clip": pa.array([asdict(loaded.clip)], CLIP_TYPE),
        **looks,
        "failure": pa.array([asdict(loaded.failure) if loaded.failure else None], FAILURE_TYPE),
        "fetch_s": pa.array([loaded.fetch_s]),
        "decode_s": pa.array([loaded.decode_s]),
    }
    if carried is not None:
        columns["carried"] = carried
    return pa.table(columns)


def _frame_columns(loaded: LoadedClip) -> dict[str, pa.Array]:
    kinds = {
        "sampled": SAMPLED_TYPE,
        "pts": pa.list_(pa.float64()),
        "weights": pa.list_(pa.float64()),
    }
    if loaded.frames is None:
        nulls: dict[str, pa.Array] = {name: pa.nulls(1, kind) for name, kind in kinds.items()}
        return nulls | {"pixels": pa.nulls(1, pa.large_binary())}
    timeline = timeline_of(loaded.frames)
    return {
        "sampled": pa.array([asdict(timeline.sampled)], SAMPLED_TYPE),
        "pts": pa.array([timeline.pts], kinds["pts"]),
        "weights": pa.array([timeline.weights], kinds["weights"]),
        "pixels": _one_binary(loaded.frames.pixels),
    }


def _mark_columns(beside: Frames | Failure | None) -> dict[str, pa.Array]:
    """MARK_COLUMNS of a clip; of the three equal channels one goes on its way."""
    kinds = (SAMPLED_TYPE, pa.list_(pa.float64()), pa.large_binary(), FAILURE_TYPE)
    columns = {name: pa.nulls(1, kind) for name, kind in zip(MARK_COLUMNS, kinds, strict=True)}
    if isinstance(beside, Failure):
        columns["mark_failure"] = pa.array([asdict(beside)], FAILURE_TYPE)
    elif beside is not None:
        sampled, pts, luma = looked_at(beside)
        columns["mark_sampled"] = pa.array([asdict(sampled)], SAMPLED_TYPE)
        columns["mark_pts"] = pa.array([pts], kinds[1])
        columns["mark_luma"] = _one_binary(np.ascontiguousarray(luma))
    return columns


def _one_binary(pixels: npt.NDArray[np.uint8]) -> pa.Array:
    """One large_binary value over an array's own memory."""
    offsets = pa.array([0, pixels.nbytes], pa.int64()).buffers()[1]
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(pixels)])


def clip_of(row: dict[str, Any]) -> Clip:
    """The clip of a row; its own id must be the row's."""
    clip = Clip(**row["clip"])
    if clip.clip_id != row["clip_id"]:
        raise ValueError(f"row {row['clip_id']!r} carries clip {clip.clip_id!r}")
    return clip


def failure_of(row: dict[str, Any]) -> Failure | None:
    """The failure of a row, if it has one."""
    return Failure(**row["failure"]) if row["failure"] is not None else None


def timeline_from(row: dict[str, Any]) -> Timeline | None:
    """The timeline of a row, if frames were sampled."""
    if row["sampled"] is None:
        return None
    return Timeline(
        pts=np.array(row["pts"], dtype=np.float64),
        weights=np.array(row["weights"], dtype=np.float64),
        sampled=Sampled(**row["sampled"]),
    )


def embeddings_of(row: dict[str, Any], dim: int) -> npt.NDArray[np.float16] | None:
    """float16 [N, dim] of a row, if its frames were embedded."""
    if row["embeddings"] is None:
        return None
    return np.frombuffer(row["embeddings"], dtype=np.float16).reshape(-1, dim)
