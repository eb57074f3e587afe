"""One contender of `benchmarks.marks.gpu`: `...gpu_worker NAME WORK SETTINGS`, answers in JSON."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.engines.machine import memory_used_mib
from benchmarks.engines.timing import timed, timed_each
from engines.backend import BuildRequest, BuildWatch
from engines.marks.reader import reader_master
from engines.precision.calibration import calibrate
from engines.precision.derive import derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import plan_named
from engines.runtimes.ort_cpu import open_session
from engines.runtimes.ort_marks import OrtMarkReader
from reelsight.nouns.mark_pair import MarkPair

__all__ = ["main", "measure"]

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]
# That copy frames. A program for a CPU is compiled for the cores that are there, and more crash it.
_THREADS = min(8, len(os.sched_getaffinity(0)))


class _Runner(Protocol):
    """One way of running the extractor."""

    def run(self, pixels: Pixels) -> Rows:
        """From host memory to host memory; any of the batches."""

    def repeat(self, pixels: Pixels, times: int) -> None:
        """The same batch so many times, and wait for the last."""


class _Ort:
    def __init__(self, request: BuildRequest, device: str) -> None:
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        self._session = open_session(str(request.source), 1, provider)

    def run(self, pixels: Pixels) -> Rows:
        rows: Rows = self._session.run(None, {"frames": pixels})[0]
        return rows

    def repeat(self, pixels: Pixels, times: int) -> None:
        for _ in range(times):
            self.run(pixels)


class _Eager:
    """The operators of the file, one by one, by torch."""

    def __init__(self, request: BuildRequest, device: str) -> None:
        import torch

        from engines.inductor.builder import program_for
        from engines.inductor.graph import read

        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        self._torch, self._device, self._proto = torch, device, read(request.source)
        plain = replace(request, options={"kernels": False})
        self._programs = {b: program_for(plain, self._proto, b, device) for b in request.buckets}
        self._placed: dict[int, Any] = {}

    def run(self, pixels: Pixels) -> Rows:
        torch = self._torch
        with torch.no_grad():
            there = torch.from_numpy(pixels).to(self._device)
            rows: Rows = self._programs[len(pixels)](there).float().cpu().numpy()
        return rows

    def repeat(self, pixels: Pixels, times: int) -> None:
        torch, size = self._torch, len(pixels)
        if size not in self._placed:
            self._placed = {size: torch.from_numpy(pixels).to(self._device)}
        with torch.no_grad():
            for _ in range(times):
                self._programs[size](self._placed[size])
        if self._device == "cuda":
            torch.cuda.synchronize()


class _Engine:
    """Our engine, built ahead of time."""

    def __init__(self, request: BuildRequest, directory: Path) -> None:
        from engines.inductor.backend import InductorBackend

        backend = InductorBackend()
        directory.mkdir(parents=True)
        artifact = backend.build(request, directory, BuildWatch())
        self.build_s = artifact.seconds
        self._engine: Any = backend.open(artifact.spec, directory, request.model, threads=_THREADS)

    def run(self, pixels: Pixels) -> Rows:
        rows: Rows = self._engine.run(pixels)
        return rows

    def repeat(self, pixels: Pixels, times: int) -> None:
        if hasattr(self._engine, "replay"):
            self._engine.replay(len(pixels), times)
            self._engine.synchronize()
            return
        for _ in range(times):
            self._engine.run(pixels)


def measure(name: str, work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Everything of one contender.

    Args:
        name: Kind and precision, such as `engine-int8`.
        work: As `benchmarks.marks.gpu.work_of` made it.
        settings: Device, batches, rounds, seconds and latencies.
    """
    kind, _, precision = name.partition("-")
    device, batches = settings["device"], tuple(settings["batches"])
    used = memory_used_mib if device == "cuda" else lambda: None
    request = _request(work, name, precision, batches)
    before = used()
    begun = time.perf_counter()
    runner = _runner(kind, request, device, work / f"engine-{precision}-{time.time_ns()}")
    frames = np.load(work / "frames.npy")
    inputs = {b: np.ascontiguousarray(np.resize(frames, (b, *frames.shape[1:]))) for b in batches}
    for batch in batches:
        for _ in range(3):
            runner.run(inputs[batch])
    ready_s, after = time.perf_counter() - begun, used()
    each = timed_each(lambda: runner.run(inputs[batches[0]]), settings["latencies"])
    rates = {b: [_rate(runner, inputs[b], settings["seconds"])] for b in batches}
    for _ in range(settings["rounds"] - 1):
        for batch in batches:
            rates[batch].append(_rate(runner, inputs[batch], settings["seconds"]))
    medians = {batch: statistics.median(found) for batch, found in rates.items()}
    best = max(medians, key=lambda batch: medians[batch])
    return {
        "p50_ms": round(float(np.percentile(each, 50)), 4),
        "p99_ms": round(float(np.percentile(each, 99)), 4),
        "latency_batch": batches[0],
        "pictures_per_s_by_batch": {str(b): round(rate, 1) for b, rate in medians.items()},
        "best_batch": best,
        "pictures_per_s": round(medians[best], 1),
        "memory_mib": None if before is None or after is None else after - before,
        "build_s": getattr(runner, "build_s", None),
        "ready_s": round(ready_s, 2),
        "agreement": round(_agreement(runner, frames, batches[-1], work), 6),
    }


def _request(work: Path, name: str, precision: str, batches: tuple[int, ...]) -> BuildRequest:
    facts = json.loads((work / "model.json").read_text(encoding="utf-8"))
    pair = MarkPair.load(Path(facts["pair"]))
    reader = OrtMarkReader(pair, buckets=(8,))
    model = reader_master(pair, reader.spec, work)
    reader.close()
    plan = plan_named(precision)
    seen = FrameSet(np.load(work / "calibrated.npy"))
    ranges = calibrate(model.image, seen, "entropy", work / "calibrations")
    path = work / f"{name}.onnx"
    made = derive(
        model.image, plan, path, calibration=ranges if plan.quantised is not None else None
    )
    return BuildRequest(model, plan, path, made.sha256, batches)


def _runner(kind: str, request: BuildRequest, device: str, directory: Path) -> _Runner:
    if kind == "ort":
        return _Ort(request, device)
    return _Eager(request, device) if kind == "eager" else _Engine(request, directory)


def _rate(runner: _Runner, pixels: Pixels, seconds: float) -> float:
    times, took = timed(lambda count: runner.repeat(pixels, count), seconds)
    return len(pixels) * times / took


def _agreement(runner: _Runner, frames: Pixels, batch: int, work: Path) -> float:
    """Mean cosine of marked frames' soft bits with what FP32 gave on the CPU."""
    truth, marked = np.load(work / "rows.npy"), np.load(work / "marked.npy")
    rows = []
    for at in range(0, len(frames), batch):
        part = frames[at : at + batch]
        full = np.resize(part, (batch, *part.shape[1:]))
        rows.append(runner.run(np.ascontiguousarray(full))[: len(part)])
    a, b = (each[marked, :-1].astype(np.float64) for each in (truth, np.concatenate(rows)))
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(sizes, 1e-12)).mean())


def main() -> None:
    """Measure one contender and print one line of JSON."""
    name, work, settings = sys.argv[1:]
    print(json.dumps(measure(name, Path(work), json.loads(settings))))


if __name__ == "__main__":
    main()
