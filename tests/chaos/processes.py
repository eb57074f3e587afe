"""The processes of runs on a local Ray: its workers, engines among them, and their decoders.

Ray's own processes are left alone: without its agents a node ends, and there is one node here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["below", "kill", "kinds"]


def kinds(root: int) -> dict[str, list[int]]:
    """What may be killed below the process that started Ray, by what it is."""
    found: dict[str, list[int]] = {"decoder": [], "worker": [], "engine": []}
    for pid, parent in below(root):
        title = _title(pid)
        if title.startswith("ray::MapWorker(MapBatches(EngineWorker"):
            found["engine"].append(pid)
        elif title.startswith(("ray::MapBatches", "ray::ReadParquet")):
            found["worker"].append(pid)
        elif "isolation" in title and "isolation" in _title(parent):
            found["decoder"].append(pid)
    return found


def below(pid: int) -> Iterator[tuple[int, int]]:
    """Every process below one, and its parent."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError):  # It ended meanwhile.
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if stat[0] != "Z":
                    children.setdefault(int(stat[1]), []).append(int(entry.name))
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for child in children.get(parent, []):
            yield child, parent
            waiting.append(child)


def kill(pid: int) -> bool:
    """SIGKILL; says whether there was anybody."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _title(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
