"""One contender in a process of its own, asked by lines of JSON: `...worker NAME STILL`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decode.contenders import CONTENDERS, Contender, Refused
from benchmarks.decode.cpu_time import tree_cpu_s
from benchmarks.json_lines import answers_alone_on_stdout, serve

__all__ = ["main"]

_WARM, _MOST = 5, 200


class _Worker:
    def __init__(self, contender: Contender, still: Path) -> None:
        self._contender = contender
        took = [self._once(still, [0.0], 1.0)[0] for _ in range(_WARM)]
        self._start_up_s = min(took) if contender.starts_processes else 0.0

    def measure(
        self, path: str, times: list[float], every_s: float, least_s: float
    ) -> dict[str, Any]:
        """CPU seconds of sampling one clip once, from its path on; the mean of several runs.

        Args:
            path: The clip.
            times: Seconds.
            every_s: Distance of the times.
            least_s: CPU seconds to spend at least, by sampling the clip again.
        """
        spent, runs, frames = 0.0, 0, 0
        while not runs or (spent < least_s and runs < _MOST):
            took, frames = self._once(Path(path), times, every_s)
            spent += took
            runs += 1
        net = max(0.0, spent / runs - self._start_up_s)
        return {"cpu_s": net, "start_up_s": self._start_up_s, "runs": runs, "frames": frames}

    def pictures(self, path: str, times: list[float], every_s: float, to: str) -> None:
        """Write what comes out to an npz file."""
        given = self._contender.sample(Path(path), times, every_s)
        if given.pts is None:
            np.savez(to, pixels=given.pixels)
        else:
            np.savez(to, pixels=given.pixels, pts=given.pts)

    def _once(self, path: Path, times: list[float], every_s: float) -> tuple[float, int]:
        before = tree_cpu_s()
        given = self._contender.sample(path, times, every_s)
        return tree_cpu_s() - before, len(given.pixels)


def main() -> None:
    """Serve until the end of stdin."""
    name, still = sys.argv[1:]
    replies = answers_alone_on_stdout()
    contender = CONTENDERS[name]()
    try:
        worker = _Worker(contender, Path(still))
        commands: dict[str, Callable[..., Any]] = {
            "measure": worker.measure,
            "pictures": worker.pictures,
        }
        serve(commands, sys.stdin, replies, Refused)
    finally:
        contender.close()


if __name__ == "__main__":
    main()
