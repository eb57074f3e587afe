"""CPU time of this process and of what it started: what work costs, whoever shares the cores."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

__all__ = ["tree_cpu_s"]


def tree_cpu_s() -> float | None:
    """CPU seconds so far of this process and its living descendants; None where nothing says.

    Linux counts other processes in ticks, of 10 ms as a rule.
    """
    if sys.platform != "linux":
        return None
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(entry.name)):
            parents[int(entry.name)] = int(fields[1])
            spent[int(entry.name)] = (int(fields[11]) + int(fields[12])) / ticks
    known = {os.getpid()}
    while found := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= found
    return time.process_time() + sum(spent[pid] for pid in known if pid != os.getpid())


def _stat(pid: str) -> list[str] | None:
    """Fields of /proc/PID/stat behind the name; None when the process is gone."""
    try:
        return Path("/proc", pid, "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
