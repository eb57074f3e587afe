"""What a process gives up before it reads hostile bytes.

Each measure stands alone: one that the kernel does not grant is said and the others hold. This
module knows the kernel, not decoders.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import resource
import signal
from pathlib import Path

from reelsight.media.isolation.syscalls import refuse_syscalls

__all__ = [
    "confine",
    "leave_network",
    "mapped_bytes",
    "resident_bytes",
    "space_taken",
    "start_clock",
]

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 1, 15, 38
_NEW_USER, _NEW_IPC, _NEW_NET = 0x10000000, 0x08000000, 0x40000000
_OPEN_FILES = 64
# The wall clock ends a clip. This is for when nobody is left to look at it.
_CPU_SLACK_S = 5


def leave_network() -> bool:
    """Move to a network, and a System V IPC space, in which there is nothing.

    A user may do so in a user namespace of its own, where the kernel allows those; root without.
    The process must have one thread.

    Returns:
        Whether the kernel allowed it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    spaces = _NEW_NET | _NEW_IPC
    return bool(libc.unshare(_NEW_USER | spaces) == 0 or libc.unshare(spaces) == 0)


def confine(parent: int, memory_mb: int) -> None:
    """Give up everything, in a process that was just forked.

    Args:
        parent: Process id of the parent, with which this process dies.
        memory_mb: Address space to be left beside what is mapped now, MiB.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    os.setsid()
    libc.prctl(_PR_SET_NAME, b"reelsight-decode", 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # It died before it could be watched.
    faulthandler.enable()
    os.environ.clear()
    os.umask(0o777)
    space = mapped_bytes() + (memory_mb << 20)
    for kind, limit in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        # Decoding has one thread. The kernel exempts root; the filter does not.
        (resource.RLIMIT_NPROC, 0),
    ):
        _, hard = resource.getrlimit(kind)
        lower = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (lower, lower))
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    refuse_syscalls()


def start_clock(timeout_s: float) -> None:
    """Allow the next clip its CPU seconds; beyond them the kernel sends SIGXCPU."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = used.ru_utime + used.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = math.ceil(spent + timeout_s) + _CPU_SLACK_S
    resource.setrlimit(
        resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
    )


def mapped_bytes() -> int:
    """Address space of this process, bytes."""
    return _pages("/proc/self/statm", 0)


def space_taken(idle: int) -> float:
    """How much of what `confine` left to this process it has had at once, as a share.

    Args:
        idle: What was mapped then, bytes.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return 0.0
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    peak = next(line for line in status.splitlines() if line.startswith("VmPeak:"))
    return (int(peak.split()[1]) * 1024 - idle) / (limit - idle)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when the kernel does not tell."""
    return _pages(f"/proc/{pid}/statm", 1)


def _pages(path: str, column: int) -> int:
    try:
        return int(Path(path).read_bytes().split()[column]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0
