"""How fast an engine is on this machine, measured by one protocol for every backend."""

from __future__ import annotations

import platform
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reelsight.engine.protocol import Engine, PipelinedEngine, Ticket

__all__ = ["measure_engine"]

_MIN_RUNS = 20
_MIN_BATCHES = 4
_PROTOCOL = (
    "one process, one engine, uint8 noise from host memory to embeddings in host memory; every "
    "bucket warmed up first; latency: one frame, padded to the smallest bucket, run by run; "
    "throughput: full buckets back to back, with as many in flight as the engine has slots"
)


def measure_engine(engine: Engine, *, seconds: float = 1.0, threads: int = 1) -> dict[str, Any]:
    """Measure latency and throughput.

    Args:
        engine: Any engine.
        seconds: How long each measurement takes at least. Latency is of 20 runs at least,
            throughput of 4 batches.
        threads: CPU threads that the engine was opened with; noted, as speed depends on them.

    Returns:
        JSON values: `latency_ms` (p50, p99 and the number of runs), `buckets` (frames a second by
        batch size), `frames_per_s` (of the best bucket), `machine` (the processor's name and
        `threads`), `protocol` and `seconds`.
    """
    engine.warmup()
    spec = engine.spec
    size = spec.geometry.size
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (spec.buckets[-1], size, size, 3), dtype=np.uint8)
    runs = _latencies(engine, frames[: spec.buckets[0]], seconds, _MIN_RUNS)
    speeds = {str(n): round(_speed(engine, frames[:n], seconds), 2) for n in spec.buckets}
    return {
        "latency_ms": {
            "p50": round(float(np.percentile(runs, 50)) * 1000, 4),
            "p99": round(float(np.percentile(runs, 99)) * 1000, 4),
            "runs": len(runs),
        },
        "buckets": speeds,
        "frames_per_s": max(speeds.values()),
        "machine": {"cpu": _processor(), "threads": threads},
        "protocol": _PROTOCOL,
        "seconds": seconds,
    }


def _processor() -> str:
    """The processor's name as the kernel has it; its architecture where it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _latencies(
    engine: Engine, batch: npt.NDArray[np.uint8], seconds: float, least: int
) -> list[float]:
    runs: list[float] = []
    until = time.perf_counter() + seconds
    while len(runs) < least or time.perf_counter() < until:
        started = time.perf_counter()
        engine.run(batch)
        runs.append(time.perf_counter() - started)
    return runs


def _speed(engine: Engine, batch: npt.NDArray[np.uint8], seconds: float) -> float:
    """Frames a second; the oldest batch is read when every slot is in flight."""
    if not isinstance(engine, PipelinedEngine):
        runs = _latencies(engine, batch, seconds, _MIN_BATCHES)
        return len(runs) * len(batch) / sum(runs)
    flying: deque[Ticket] = deque()
    done, started = 0, time.perf_counter()
    while done < _MIN_BATCHES or time.perf_counter() < started + seconds:
        flying.append(engine.submit(batch))
        if len(flying) == engine.slots:
            flying.popleft().result()
            done += 1
    while flying:
        flying.popleft().result()
        done += 1
    return done * len(batch) / (time.perf_counter() - started)
