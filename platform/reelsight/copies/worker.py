"""Marks read in tables of clips, on workers: by themselves, or beside the engine of the tags.

Both engines of a run that tags and reads marks are in one actor: a clip's pictures cross the object
store once and are let go there, where a second pool would carry those for marks through the first.
They are plain classes; Ray Data gets them from map_batches. No key is known here.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reelsight.copies.reading import read_luma, require_extractor, views_of
from reelsight.engine import Engine, EngineHost, EngineWorker
from reelsight.errors import EngineInputError
from reelsight.media.luma import Plane
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.frames import Frames
from reelsight.nouns.mark import SoftBits
from reelsight.nouns.mark_reading import MarkReading
from reelsight.nouns.report import Failure, Sampled
from reelsight.nouns.schema import marks_column
from reelsight.plan import MarksPlan

__all__ = ["MARK_COLUMNS", "MarkWorker", "TagAndMarkWorker", "looked_at", "reading_of"]

MARK_COLUMNS = ("mark_sampled", "mark_pts", "mark_luma", "mark_failure")
"""What comes of a clip for its marks: struct, list<double> [F], bytes of uint8 [F, S, S], struct;
all null where the clip is a dead letter."""


Looked = tuple[Sampled, npt.NDArray[np.float64], Plane]
"""How a clip was sampled, float64 [F] seconds, and uint8 [F, S, S] luma."""


def looked_at(frames: Frames) -> Looked:
    """What an extractor gets of a clip's frames of geometry `active`."""
    sampled = Sampled(
        policy=frames.policy,
        asked=frames.asked,
        returned=frames.returned,
        max_error_s=frames.max_error_s,
        partial=frames.stopped,
    )
    return sampled, frames.pts, frames.pixels[..., 0]


def reading_of(
    plan: MarksPlan, host: EngineHost, clip: Clip, looked: Looked | Failure
) -> MarkReading:
    """What an extractor reads in a clip.

    Args:
        plan: How; its spec is the host's.
        host: Of the extractor.
        clip: The clip.
        looked: What came of it, or why nothing did.

    Raises:
        EngineError: The engine is broken; no clip is to blame.
    """
    if not isinstance(looked, Failure):
        sampled, pts, luma = looked
        try:
            attempts = tuple(read_luma(host, clip, luma, pts, views_of(plan.search)))
            return _reading(plan, attempts, sampled, None)
        except EngineInputError as error:
            looked = Failure.of(error)
    return _reading(plan, (), None, looked)


def _reading(
    plan: MarksPlan,
    attempts: tuple[SoftBits, ...],
    sampled: Sampled | None,
    failure: Failure | None,
) -> MarkReading:
    spec = plan.spec
    return MarkReading(
        carrier=plan.carrier,
        extractor_sha256=spec.onnx_sha256,
        engine=plan.engine,
        engine_hash=spec.hash,
        attempts=attempts,
        sampled=sampled,
        failure=failure,
    )


class MarkWorker:
    """Holds an extractor and reads the marks of tables of clips.

    Args:
        factory: Makes the engine; called once, in the process that uses it. Must be picklable.
        plan: How marks are read; its spec is what that engine must be.
        max_queued_frames: Bound of the host's queue.

    Raises:
        EngineError: It cannot be opened here, is another one, or reads no marks.
    """

    def __init__(
        self, factory: Callable[[], Engine], plan: MarksPlan, *, max_queued_frames: int = 2048
    ) -> None:
        require_extractor(plan.spec)
        self._plan = plan
        self._worker = EngineWorker(factory, plan.spec, max_queued_frames=max_queued_frames)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Read the marks of a table of clips.

        Args:
            batch: One row a clip, with `clip`, `failure` and MARK_COLUMNS. Other columns pass
                through.

        Returns:
            The same rows in the same order, with the column `marks` instead of MARK_COLUMNS, and
            what it took added to `engine_s`.

        Raises:
            EngineError: The engine itself is broken; no clip is to blame.
        """
        readings, seconds = [], []
        for at in range(batch.num_rows):
            started = time.perf_counter()
            readings.append(self._read(batch, at))
            seconds.append(0.0 if readings[-1] is None else time.perf_counter() - started)
        kept = batch.drop_columns([*MARK_COLUMNS])
        if "engine_s" in kept.column_names:
            before = kept["engine_s"].to_pylist()
            seconds = [a + b for a, b in zip(before, seconds, strict=True)]
            kept = kept.drop_columns(["engine_s"])
        return kept.append_column("marks", marks_column(readings)).append_column(
            "engine_s", pa.array(seconds, pa.float64())
        )

    def close(self) -> None:
        """Close the engine; idempotent."""
        self._worker.close()

    def _read(self, batch: pa.Table, at: int) -> MarkReading | None:
        failure = batch["mark_failure"][at].as_py()
        luma = batch["mark_luma"][at]
        # A clip may have become a dead letter only at the engine of its tags.
        if batch["failure"][at].is_valid or (failure is None and not luma.is_valid):
            return None
        clip = Clip(**batch["clip"][at].as_py())
        looked: Looked | Failure
        if failure is not None:
            looked = Failure(**failure)
        else:
            size = self._plan.spec.geometry.size
            pts = np.array(batch["mark_pts"][at].as_py(), np.float64)
            plane = np.frombuffer(luma.as_buffer(), np.uint8).reshape(len(pts), size, size)
            looked = Sampled(**batch["mark_sampled"][at].as_py()), pts, plane
        return reading_of(self._plan, self._worker.host, clip, looked)


class TagAndMarkWorker:
    """The engine of the tags and an extractor in one actor.

    Args:
        factory: Makes the engine of the tags.
        spec: What that must be.
        open_reader: Makes the extractor.
        marks: How marks are read.
        max_queued_frames: Bound of either queue.

    Raises:
        EngineError: As EngineWorker and MarkWorker.
    """

    def __init__(
        self,
        factory: Callable[[], Engine],
        spec: EngineSpec,
        open_reader: Callable[[], Engine],
        marks: MarksPlan,
        *,
        max_queued_frames: int = 2048,
    ) -> None:
        self._tags = EngineWorker(factory, spec, max_queued_frames=max_queued_frames)
        try:
            self._marks = MarkWorker(open_reader, marks, max_queued_frames=max_queued_frames)
        except BaseException:
            self._tags.close()
            raise

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed the frames of a table of clips, then read their marks."""
        return self._marks(self._tags(batch))

    def close(self) -> None:
        """Close both engines; idempotent."""
        self._marks.close()
        self._tags.close()
