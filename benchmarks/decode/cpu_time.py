"""CPU time of a process and of everything that it started, living or reaped."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

__all__ = ["children", "cpu_s_of", "descendants", "tree_cpu_s"]

_TICKS = os.sysconf("SC_CLK_TCK")


def tree_cpu_s() -> float:
    """User and system seconds, in steps of microseconds."""
    reaped = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = sum(cpu_s_of(pid) for pid in descendants(os.getpid()))
    return time.process_time() + reaped.ru_utime + reaped.ru_stime + living


def descendants(pid: int) -> list[int]:
    """Ids of the living processes below one."""
    return [below for child in children(pid) for below in (child, *descendants(child))]


def children(pid: int) -> list[int]:
    """Children of all of a process's threads, in ascending order; none of one that is gone."""
    tasks = Path(f"/proc/{pid}/task")
    while tasks.exists():
        try:
            lists = [(task / "children").read_text().split() for task in tasks.iterdir()]
        except (FileNotFoundError, ProcessLookupError):
            continue  # A thread has ended, and its children are another's: all are read anew.
        return sorted(int(child) for found in lists for child in found)
    return []


def cpu_s_of(pid: int) -> float:
    """Of one process, and of the children that it has reaped; 0 when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        # The kernel's id of the CPU clock of another process: see clock_getcpuclockid(3).
        own = time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0
    return own + (int(stat[13]) + int(stat[14])) / _TICKS
