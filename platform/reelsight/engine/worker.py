"""EngineWorker: the one actor class behind both doors.

It is plain and undecorated: Ray Data gets it from map_batches, Ray Serve wraps it. It is built
inside the worker process, so the engine's device is opened where it is used. It speaks Arrow to
Ray Data (`__call__`) and arrays to Serve (`run`), over one EngineHost; it knows neither Ray nor
Serve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from reelsight.engine.host import EngineHost
from reelsight.engine.protocol import Engine, HostObserver
from reelsight.errors import EngineError, EngineInputError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.report import Failure
from reelsight.nouns.schema import FAILURE_TYPE

__all__ = ["EngineWorker"]

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]


class EngineWorker:
    """Holds an engine and embeds frames for whoever calls.

    Args:
        factory: Makes the engine; called once, in the process that uses it. Must be picklable.
        spec: What that engine must be: what rows are stamped with must be what ran.
        max_queued_frames: Bound of the host's queue.
        observer: Of the host.

    Raises:
        EngineError: The engine cannot be opened here, or is not the one of the spec.
    """

    def __init__(
        self,
        factory: Callable[[], Engine],
        spec: EngineSpec,
        *,
        max_queued_frames: int = 2048,
        observer: HostObserver | None = None,
    ) -> None:
        engine = factory()
        try:
            if engine.spec != spec:
                raise EngineError(
                    f"opened {engine.spec}, the plan says {spec}",
                    code="engine.other_spec",
                    hint="Every node must hold the same versions of the model and its runtime.",
                )
            engine.warmup()
            self.host = EngineHost(engine, max_queued_frames=max_queued_frames, observer=observer)
        except BaseException:
            engine.close()
            raise
        self._size = engine.spec.geometry.size

    def run(self, pixels: Pixels) -> Embeddings:
        """Embed frames: uint8 [N, S, S, 3] RGB -> float32 [N, D], L2-normalised."""
        return self.host.run(pixels)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Embed the frames of a table of clips.

        Args:
            batch: One row a clip: `pts` list<double> [N] and `pixels` large_binary of N x S x S x 3
                bytes; both null where `failure` is set. Other columns pass through.

        Returns:
            The same rows in the same order, with `pixels` replaced by `embeddings` (large_binary of
            float16 [N, D]) and `engine_s` added. A clip whose frames the engine cannot take gets a
            `failure` and its neighbours are untouched.

        Raises:
            EngineError: The engine itself is broken; no clip is to blame, and none is marked.
        """
        started = time.perf_counter()
        busy_before, frames_before = self.host.stats.busy_s, self.host.stats.frames
        counts = _list_lengths(batch["pts"])
        futures = [
            None if value is None else self._submit(value, n)
            for value, n in zip(_binary_views(batch["pixels"]), counts, strict=True)
        ]
        failures = batch["failure"].to_pylist()
        embeddings: list[bytes | None] = []
        for row, future in enumerate(futures):
            outcome = None if future is None else _outcome(future)
            if isinstance(outcome, Failure):
                failures[row] = asdict(outcome)
                outcome = None
            embeddings.append(None if outcome is None else outcome.astype(np.float16).tobytes())
        busy = self.host.stats.busy_s - busy_before
        ran = max(1, self.host.stats.frames - frames_before)
        # Concurrent calls share the engine: a call's part is its share of the frames that ran.
        per_frame = min(busy, time.perf_counter() - started) / ran
        seconds = [
            0.0 if e is None else per_frame * n for e, n in zip(embeddings, counts, strict=True)
        ]
        kept = batch.drop_columns(["pixels", "failure"])
        return (
            kept.append_column("failure", pa.array(failures, FAILURE_TYPE))
            .append_column("embeddings", pa.array(embeddings, pa.large_binary()))
            .append_column("engine_s", pa.array(seconds, pa.float64()))
        )

    def close(self) -> None:
        """Close the engine; idempotent."""
        self.host.close()

    def _submit(self, value: memoryview, frames: int) -> Future[Embeddings] | Failure:
        try:
            flat = np.frombuffer(value, dtype=np.uint8)
            expected = frames * self._size * self._size * 3
            if flat.size != expected:
                raise EngineInputError(
                    f"{flat.size} pixel bytes for {frames} frames, expected {expected}"
                )
            return self.host.submit(flat.reshape(frames, self._size, self._size, 3))
        except EngineInputError as error:
            return Failure.of(error)


def _outcome(future: Future[Embeddings] | Failure) -> Embeddings | Failure:
    if isinstance(future, Failure):
        return future
    try:
        return future.result()
    except EngineInputError as error:
        return Failure.of(error)


def _list_lengths(column: pa.ChunkedArray) -> list[int]:
    return [0 if n is None else n for n in pa.compute.list_value_length(column).to_pylist()]


def _binary_views(column: pa.ChunkedArray) -> list[memoryview | None]:
    """Zero-copy views of a large_binary column's values."""
    return [
        memoryview(value.as_buffer()) if value.is_valid else None
        for chunk in column.chunks
        for value in chunk
    ]
