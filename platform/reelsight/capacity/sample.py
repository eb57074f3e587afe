"""Measuring a sample: each stage by itself, on every core at once, as a backfill loads the machine.

The clips are those whose ids have the least hashes: the same ones every time, whatever the order of
the manifest. They go through the same steps as in a backfill. Stages are measured one after the
other with all cores busy, because a core whose neighbours idle is faster than one in a run. What
cores do is counted in CPU time, so that other work on the machine does not pass for clips; fetching
and an engine with a device are timed by the clock.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from reelsight.capacity.cpu_time import tree_cpu_s
from reelsight.capacity.measured import CPU_BACKENDS, STAGES, Measured
from reelsight.engine import EngineRecipe, EngineWorker
from reelsight.errors import ManifestError
from reelsight.media.decoder import open_decoder
from reelsight.nouns.clip import Clip
from reelsight.nouns.report import Report
from reelsight.nouns.schema import reports_to_table
from reelsight.plan import TaggingPlan
from reelsight.settings import Settings
from reelsight.steps import ClipRequest, LoadedClip, load_clip, report_clip, timeline_of
from reelsight.store.manifest import Manifest
from reelsight.tagging import Timeline

__all__ = ["choose", "cores_here", "measure"]

Pixels = npt.NDArray[np.uint8]

# Of pixels that are kept for the engine; the frames of further clips are counted and let go.
_KEPT_BYTES = 384 << 20
# An engine is run over the sample again until it has been busy for so long.
_ENGINE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """A clip after decode: its costs, and its pixels while there is room for them."""

    clip: Clip
    code: str | None
    timeline: Timeline | None
    pixels: Pixels | None
    fetch_s: float
    decode_s: float


def choose(manifest: Manifest, count: int) -> list[ClipRequest]:
    """The `count` clips of a manifest with the least sha256 of their id."""

    def key(row: dict[str, Any]) -> bytes:
        return hashlib.sha256(row["clip_id"].encode()).digest()

    return [ClipRequest(r["clip_id"], r["uri"]) for r in heapq.nsmallest(count, manifest, key=key)]


def cores_here() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure(
    requests: Sequence[ClipRequest],
    plan: TaggingPlan,
    recipe: EngineRecipe,
    settings: Settings,
    *,
    cores: int | None = None,
) -> Measured:
    """Run clips through every stage and count.

    Args:
        requests: The sample.
        plan: What to do to each clip.
        recipe: How to open the plan's engine.
        settings: Threads and queue of the engine.
        cores: Lanes; None for the cores of this machine.

    Raises:
        ManifestError: No clip of the sample could be decoded.
        EngineError: The engine cannot be opened here.
    """
    lanes = cores or cores_here()
    seen, decode_s = _load(requests, plan, lanes)
    timelines = {one.clip: one.timeline for one in seen if one.timeline is not None}
    if not timelines:
        raise ManifestError(
            f"none of {len(requests)} clips could be decoded; the first failed with {seen[0].code}",
            code="manifest.sample_dead",
            hint="Look at one with `reelsight probe`, or take a larger --sample.",
        )
    good = [one for one in seen if one.timeline is not None]
    frames = tuple(len(timeline.pts) for timeline in timelines.values())
    kept = [one.pixels for one in good if one.pixels is not None]
    engine_s, start_s = _engine(kept, recipe, settings, lanes)
    report_s, write_s = _report(timelines, plan)
    stages = (
        sum(one.fetch_s for one in good),
        decode_s,
        engine_s * sum(frames),
        report_s,
        write_s,
    )
    return Measured(
        clips=len(seen),
        dead=len(seen) - len(good),
        frames=frames,
        cores=lanes,
        seconds=dict(zip(STAGES, stages, strict=True)),
        engine=recipe.spec.backend,
        start_s=start_s,
    )


def _load(
    requests: Sequence[ClipRequest], plan: TaggingPlan, lanes: int
) -> tuple[list[_Seen], float]:
    """Fetch and decode, a decoder a lane; also the core-seconds of the decoding.

    Every lane decodes a clip before anything is counted: that starts its decoder.
    """
    waiting: SimpleQueue[ClipRequest] = SimpleQueue()
    for request in requests:
        waiting.put(request)
    room = _Room(_KEPT_BYTES)
    spent: list[float | None] = []
    # Between the two, every decoder is there and nothing but decoding goes on.
    begin = threading.Barrier(lanes, lambda: spent.append(tree_cpu_s()))
    end = threading.Barrier(lanes, lambda: spent.append(tree_cpu_s()))

    def lane(number: int) -> list[_Seen]:
        found: list[_Seen] = []
        decoder = open_decoder(plan.decoding, plan.sampling)
        try:
            load_clip(requests[number % len(requests)], plan, decoder)
            begin.wait()
            with suppress(Empty):
                while True:
                    found.append(_seen(load_clip(waiting.get_nowait(), plan, decoder), room))
            end.wait()
            return found
        except BaseException:
            begin.abort()  # Nobody waits for a lane that broke.
            end.abort()
            raise
        finally:
            decoder.close()

    with ThreadPoolExecutor(lanes) as pool:
        futures = [pool.submit(lane, number) for number in range(lanes)]
    broke = [error for future in futures if (error := future.exception())]
    if broke:
        raise next((e for e in broke if not isinstance(e, threading.BrokenBarrierError)), broke[0])
    seen = [one for future in futures for one in future.result()]
    first, last = spent
    if first is None or last is None:
        return seen, sum(one.decode_s for one in seen if one.timeline is not None)
    return seen, last - first


class _Room:
    """Bytes that are left; the first who asks always gets them."""

    def __init__(self, left: int) -> None:
        self._left, self._given = left, False
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            if size > self._left and self._given:
                return False
            self._left -= size
            self._given = True
            return True


def _seen(loaded: LoadedClip, room: _Room) -> _Seen:
    frames = loaded.frames
    return _Seen(
        clip=loaded.clip,
        code=loaded.failure.code if loaded.failure else None,
        timeline=timeline_of(frames) if frames is not None else None,
        pixels=frames.pixels if frames is not None and room.take(frames.pixels.nbytes) else None,
        fetch_s=loaded.fetch_s,
        decode_s=loaded.decode_s,
    )


def _engine(
    kept: list[Pixels], recipe: EngineRecipe, settings: Settings, lanes: int
) -> tuple[float, float]:
    """Core-seconds (or device-seconds) a frame, and seconds until the engine was warm."""
    on_cpu = recipe.spec.backend in CPU_BACKENDS
    count = max(1, lanes // settings.engine.threads) if on_cpu else 1
    started = time.perf_counter()
    workers = [
        EngineWorker(
            recipe.open_engine, recipe.spec, max_queued_frames=settings.engine.max_queued_frames
        )
        for _ in range(count)
    ]
    start_s = (time.perf_counter() - started) / count
    cpu_s = time.process_time()
    try:
        with ThreadPoolExecutor(count) as pool:
            spent = list(pool.map(_saturate, workers, [kept] * count))
        cpu_s = time.process_time() - cpu_s
    finally:
        for worker in workers:
            worker.close()
    frames = sum(ran for _, ran in spent)
    return (cpu_s if on_cpu else sum(busy for busy, _ in spent)) / frames, start_s


def _saturate(worker: EngineWorker, kept: list[Pixels]) -> tuple[float, int]:
    """Busy seconds and frames of an engine whose queue is never empty."""
    stats = worker.host.stats
    while stats.busy_s < _ENGINE_S:
        for future in [worker.host.submit(pixels) for pixels in kept]:
            future.result()
    return stats.busy_s, stats.frames


def _report(timelines: dict[Clip, Timeline], plan: TaggingPlan) -> tuple[float, float]:
    """Core-seconds of the reports and of their file."""
    rng = np.random.default_rng(0)

    def report(clip: Clip, timeline: Timeline) -> Report:
        # What is in them decides nothing about the time; that they do not compress does.
        rows = rng.normal(size=(len(timeline.pts), plan.spec.dim))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        embeddings = rows.astype(np.float16)
        return report_clip(clip, plan, {}, timeline=timeline, embeddings=embeddings, failure=None)

    report(*next(iter(timelines.items())))
    table, report_s = _timed(
        lambda: reports_to_table([report(*item) for item in timelines.items()], plan.spec.dim, None)
    )
    with tempfile.TemporaryDirectory(prefix="reelsight-plan-") as scratch:
        path = Path(scratch, "part.parquet")
        _, write_s = _timed(
            lambda: pq.write_table(
                table, path, compression="zstd", use_dictionary=["status", "provenance"]
            )
        )
    return report_s, write_s


def _timed(run: Callable[[], Any]) -> tuple[Any, float]:
    started = time.thread_time()
    result = run()
    return result, time.thread_time() - started
