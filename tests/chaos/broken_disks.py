"""Disks that break at a step, now and then, or when they are full; the rest is the real one."""

from __future__ import annotations

import errno
import os
import random
import signal
from pathlib import Path
from typing import Any

from reelsight.store.disk import Disk

__all__ = ["DyingDisk", "FlakyDisk", "FullDisk"]


class FaultyDisk(Disk):
    """Asks before and after each step."""

    def before(self, step: str, content: Any = None, path: Path | None = None) -> None:
        """May raise, or not come back."""

    def after(self, step: str) -> None:
        """May raise, or not come back."""

    def write(self, path: Path, content: Any) -> None:
        self.before("write", content, path)
        super().write(path, content)
        self.after("write")

    def sync(self, path: Path) -> None:
        self.before("sync")
        super().sync(path)
        self.after("sync")

    def link(self, source: Path, target: Path) -> None:
        self.before("link")
        super().link(source, target)
        self.after("link")

    def remove(self, path: Path) -> None:
        self.before("remove")
        super().remove(path)
        self.after("remove")

    def make_directory(self, path: Path) -> None:
        self.before("make_directory")
        super().make_directory(path)
        self.after("make_directory")


class DyingDisk(FaultyDisk):
    """Kills its process at one point: there is one before and one after each step.

    A write is killed with half of its bytes in the file as well.

    Args:
        at: Number of the point, from 1.
    """

    def __init__(self, at: int) -> None:
        self.left = at

    def before(self, step: str, content: Any = None, path: Path | None = None) -> None:
        self._pass()
        if step == "write" and path is not None:
            self.left -= 1
            if not self.left:
                path.write_bytes(bytes(memoryview(content))[: memoryview(content).nbytes // 2])
                os.kill(os.getpid(), signal.SIGKILL)

    def after(self, step: str) -> None:
        self._pass()

    def _pass(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


class FlakyDisk(FaultyDisk):
    """Fails with EIO: half of the time before a step, else after it was done.

    Args:
        share: Of the steps that fail.
        seed: Of which ones.
    """

    def __init__(self, share: float, seed: int) -> None:
        self._share = share / 2
        self._random = random.Random(seed)
        self.failed = 0

    def before(self, step: str, content: Any = None, path: Path | None = None) -> None:
        self._fail()

    def after(self, step: str) -> None:
        self._fail()

    def _fail(self) -> None:
        if self._random.random() < self._share:
            self.failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))


class FullDisk(FaultyDisk):
    """Has room for so many bytes; the write that hits the end leaves what fitted in.

    Args:
        room: Bytes.
    """

    def __init__(self, room: int) -> None:
        self._room = room

    def before(self, step: str, content: Any = None, path: Path | None = None) -> None:
        if step != "write" or path is None:
            return
        size = memoryview(content).nbytes
        if size > self._room:
            path.write_bytes(bytes(memoryview(content))[: self._room])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room -= size
