"""Kills processes of a backfill on a running Ray, one for each commit that lands, and its drivers.

The same command is run again until it comes through, as a person would. Half-way the driver is
killed as well, and two take its place at once.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import ray

from tests.chaos.processes import kill, kinds

__all__ = ["Chaos", "Killed"]

ROOT = Path(__file__).parents[2]
_POLL_S = 0.05
_STARTS = 12


@dataclass(frozen=True, slots=True)
class Killed:
    """One kill: of what, and how many shards were committed at that moment."""

    kind: str
    commits: int


@dataclass
class Chaos:
    """One run that is not left alone.

    Args:
        arguments: Of `jobs.backfill`, with `--output` last.
        output: That.
        shards: How many the run has.
        kills: How many processes are killed.
        seed: Of which ones.
    """

    arguments: list[str]
    output: Path
    shards: int
    kills: int
    seed: int = 0
    killed: list[Killed] = field(default_factory=list)
    ends: Counter[int] = field(default_factory=Counter)

    def run(self, log: IO[bytes]) -> None:
        """From the first driver's start to the end of the last one that was needed."""
        drivers = [self._start(log)]
        half = self.shards // 2
        twins = False
        started, seen = 1, 0
        while drivers:
            time.sleep(_POLL_S)
            commits = self.commits()
            if not twins and commits >= half:
                twins = True
                if kill(drivers[0].pid):
                    self.killed.append(Killed("driver", commits))
                drivers.append(self._start(log))
                started += 1
            elif commits > seen and len(self.killed) < self.kills and self._kill(commits):
                seen = commits
            for driver in [d for d in drivers if d.poll() is not None]:
                drivers.remove(driver)
                self.ends[driver.returncode] += 1
                if driver.returncode:
                    assert started < _STARTS, "it does not come through"
                    drivers.append(self._start(log))
                    started += 1

    def commits(self) -> int:
        """Shards that are committed now."""
        return len(list(self.output.glob("runs/*/commits/0*.json")))

    def _kill(self, commits: int) -> bool:
        """Kill one process of the kind whose turn it is, or of the next that is there."""
        chosen = random.Random(f"{self.seed}-{len(self.killed)}")
        there = kinds(os.getpid())
        order = [*there]
        turn = len(self.killed) % len(order)
        for kind in order[turn:] + order[:turn]:
            if there[kind] and kill(chosen.choice(there[kind])):
                self.killed.append(Killed(kind, commits))
                return True
        return False

    def _start(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        address = ray.get_runtime_context().gcs_address
        path = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.backfill", *self.arguments, str(self.output), "--json"],
            env={**os.environ, "RAY_ADDRESS": address, "PYTHONPATH": path},
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )

    def told(self) -> str:
        """What happened, in one line of JSON."""
        counts = Counter(k.kind for k in self.killed)
        at = [k.commits for k in self.killed]
        return json.dumps({"killed": counts, "at_commits": at, "driver_ends": self.ends})
