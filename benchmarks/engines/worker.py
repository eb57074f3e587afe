"""One contender in a process of its own, asked by lines of JSON: `...worker NAME CASE ...`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines.contender import Contender, contender_named
from benchmarks.engines.frames import noise_frames
from benchmarks.engines.timing import timed_each
from benchmarks.engines.towers import ModelCase
from benchmarks.json_lines import answers_alone_on_stdout, serve

__all__ = ["main"]


class _Worker:
    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self.commands: dict[str, Callable[..., Any]] = {
            "load": contender.load,
            "place": lambda batches: contender.place(tuple(batches)),
            "warm": contender.warm,
            "throughput": lambda batch, seconds: _count(contender.throughput(batch, seconds)),
            "pipelined": lambda batch, seconds: _count(contender.pipelined(batch, seconds)),
            "latency": self._latency,
            "embed": self._embed,
            "reserved_mib": contender.reserved_mib,
            "profile": contender.profile,
        }

    def _latency(self, size: int, runs: int) -> dict[str, Any]:
        frame = noise_frames(1, size)
        found = timed_each(lambda: self._contender.run(frame), runs)
        p50, p99 = np.percentile(found, [50, 99])
        return {"p50_ms": round(p50, 4), "p99_ms": round(p99, 4), "runs": runs}

    def _embed(self, frames: str, rows: str, batch: int) -> None:
        """Full batches: what is left of the last one is filled with its first frame."""
        pixels = np.load(frames)
        parts = []
        for start in range(0, len(pixels), batch):
            part = pixels[start : start + batch]
            missing = np.repeat(part[:1], batch - len(part), axis=0)
            parts.append(self._contender.run(np.concatenate([part, missing]))[: len(part)])
        path = Path(rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate(parts).astype(np.float32))


def main() -> None:
    """Serve until `quit` or the end of stdin."""
    name, case, root, device, threads = sys.argv[1:]
    replies = answers_alone_on_stdout()
    worker = _Worker(contender_named(name, ModelCase.read(case), Path(root), device, int(threads)))
    serve(worker.commands, sys.stdin, replies, SystemExit)


def _count(found: tuple[int, float] | None) -> dict[str, float] | None:
    return None if found is None else {"batches": found[0], "seconds": round(found[1], 5)}


if __name__ == "__main__":
    main()
