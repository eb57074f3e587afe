"""Run one contender and count the CPU time of every process that it starts.

The counts come from /proc: user and system time of each descendant, read five times a second.
Orphans stay in the tree because this process adopts them, which matters for Ray: its daemons
outlive their parents. What a process burns between its last reading and its end (at most 0.2 s) is
missed; the difference of two runs cancels most of that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.decode.cpu_time import children

__all__ = ["Usage", "run_counted"]

_INTERVAL_S = 0.2
_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took: seconds by the clock, and CPU seconds of its whole process tree."""

    wall_s: float
    cpu_s: float


def run_counted(command: list[str], *, log: Path, env: dict[str, str]) -> Usage:
    """Run a command to its end.

    Args:
        command: Program and arguments.
        log: File for its output.
        env: Its environment.

    Raises:
        SystemExit: The command failed; names the log.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    started = time.perf_counter()
    with log.open("wb") as output, _TreeCounter() as counter:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
        code = process.wait()
        wall_s = time.perf_counter() - started
        _end_orphans()
    if code:
        raise SystemExit(f"{command[:4]} ended with {code}: see {log}")
    return Usage(wall_s, counter.cpu_s)


class _TreeCounter:
    """Samples the CPU time of this process's descendants until it is left."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    @property
    def cpu_s(self) -> float:
        return sum(self._seen.values())

    def __enter__(self) -> _TreeCounter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _loop(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        parents, facts = {}, {}
        for entry in os.scandir("/proc"):
            if entry.name.isdigit() and (stat := _stat(entry.name)):
                pid = int(entry.name)
                parents[pid], facts[pid] = stat[0], stat[1:]
        known = {os.getpid()}
        while found := {pid for pid, parent in parents.items() if parent in known} - known:
            known |= found
        for pid in known - {os.getpid()}:
            born, seconds = facts[pid]
            self._seen[pid, born] = seconds


def _stat(pid: str) -> tuple[int, int, float] | None:
    """Parent, start tick and CPU seconds of a process; None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[19]), (int(fields[11]) + int(fields[12])) / _TICKS


def _end_orphans(patience_s: float = 10.0) -> None:
    """Wait for what the command left behind; end what does not end by itself."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
        except ChildProcessError:
            return
    for pid in children(os.getpid()):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
