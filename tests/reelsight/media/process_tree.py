"""Processes as the kernel lists them: who is whose child, and who is gone."""

from __future__ import annotations

import os
import select
import time
from pathlib import Path

from benchmarks.decode.cpu_time import children

__all__ = ["alive", "children", "name_of", "nurseries", "wait_gone"]


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    return _stat(pid)[:1] not in ([], ["Z"])


def name_of(pid: int) -> str:
    """What the kernel calls a process; empty for one that is gone."""
    return _read(pid, "comm").decode()


def nurseries(pid: int) -> list[int]:
    """The nurseries of decoding children that a process has."""
    return [child for child in children(pid) if b"isolation.nursery" in _read(child, "cmdline")]


def wait_gone(pids: list[int], within_s: float = 10.0) -> list[int]:
    """The processes that outlive `within_s` seconds."""
    deadline = time.monotonic() + within_s
    left = []
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            left.append(pid)
        os.close(process)
    return left


def _stat(pid: int) -> list[str]:
    """State, parent, and so on; nothing for a process that is gone."""
    return _read(pid, "stat").decode().rpartition(")")[2].split()


def _read(pid: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
