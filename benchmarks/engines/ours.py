"""Contender: our engine, built ahead of time, as a worker of a job opens it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.engines.contender import Embeddings, Pixels
from benchmarks.engines.files import ModelFiles, read_json, spec_from
from benchmarks.engines.frames import noise_frames
from benchmarks.engines.timing import timed
from engines.inductor.backend import InductorBackend
from reelsight.nouns.model import Model

__all__ = ["OurEngine"]

_PROFILED_RUNS = 3
_KERNELS = 14


class OurEngine:
    """An engine of the torch compiler's backend. It normalises inside: its input is uint8.

    Args:
        files: Of the model.
        precision: Of the engine.
        threads: CPU threads that copy frames.
    """

    def __init__(self, files: ModelFiles, precision: str, threads: int) -> None:
        self._files, self._precision, self._threads = files, precision, threads
        self._noise: dict[int, Pixels] = {}
        self._engine: Any = None

    def load(self) -> None:
        artifact = self._files.artifact(self._precision)
        if not artifact.is_file():
            raise SystemExit(self._files.why_missing(f"build-{self._precision}"))
        self._spec = spec_from(read_json(artifact)["spec"])
        self._model = Model.load(self._files.model)
        for batch in self._spec.buckets:
            self._noise[batch] = noise_frames(batch, self._spec.geometry.size)

    def place(self, batches: tuple[int, ...]) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        directory = self._files.engine(self._precision)
        spec = replace(self._spec, buckets=batches)
        self._engine = InductorBackend().open(spec, directory, self._model, threads=self._threads)

    def warm(self, batch: int) -> None:
        # The noise stays in the bucket's input, where replays read it.
        for _ in range(3):
            self._engine.run(self._noise[batch])

    def throughput(self, batch: int, seconds: float) -> tuple[int, float]:
        return timed(lambda times: self._repeat(batch, times), seconds)

    def run(self, frames: Pixels) -> Embeddings:
        rows: Embeddings = self._engine.run(frames)
        return rows

    def pipelined(self, batch: int, seconds: float) -> tuple[int, float] | None:
        if not hasattr(self._engine, "submit"):
            return None
        return timed(lambda times: self._stream(batch, times), seconds)

    def reserved_mib(self) -> float | None:
        return torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_available() else None

    def profile(self, batch: int) -> list[dict[str, Any]] | None:
        cuda = torch.cuda.is_available()
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as seen:
            self._repeat(batch, _PROFILED_RUNS)
        time_of = "self_device_time_total" if cuda else "self_cpu_time_total"
        events = sorted(seen.key_averages(), key=lambda e: -getattr(e, time_of))[:_KERNELS]
        return [
            {
                "kernel": event.key[:120],
                "ms": round(getattr(event, time_of) / 1000 / _PROFILED_RUNS, 4),
                "count": event.count / _PROFILED_RUNS,
            }
            for event in events
        ]

    def _repeat(self, batch: int, times: int) -> None:
        if hasattr(self._engine, "replay"):
            self._engine.replay(batch, times)
            self._engine.synchronize()
        else:
            for _ in range(times):
                self._engine.run(self._noise[batch])

    def _stream(self, batch: int, times: int) -> None:
        flying: deque[Any] = deque()
        for _ in range(times):
            if len(flying) == self._engine.slots:
                flying.popleft().result()
            flying.append(self._engine.submit(self._noise[batch]))
        while flying:
            flying.popleft().result()
