"""FilePointer: the BankState as one small file on a path that every replica sees.

A writer takes an advisory lock, compares the version, and replaces the file whole. Points at which
it can be killed: with the lock (the system frees it), with the new file written beside the old one
(the old one stays), after the replacement (the new one stays). A reader takes no lock: it sees the
old file or the new one. The path must be on a file system with flock and atomic rename: a local
disk, or NFS 4; elsewhere the pointer belongs into Redis.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reelsight.atomic import write_whole
from reelsight.errors import PointerUnreachable
from reelsight.labels.release import BankState

__all__ = ["FilePointer"]

_LOCK_S = 5.0
_RETRY_S = 0.01


class FilePointer:
    """A BankPointer in a file.

    Args:
        path: The file; it and its directory are made by the first write.
        lock_s: Seconds to wait for another writer.
    """

    def __init__(self, path: Path, *, lock_s: float = _LOCK_S) -> None:
        self.path, self._lock_s = path, lock_s

    def read(self) -> BankState:
        try:
            return BankState.from_json(self.path.read_bytes())
        except FileNotFoundError:
            return BankState()
        except OSError as error:
            raise PointerUnreachable(f"cannot read {self.path}: {error}") from error

    def swap(self, before: BankState, after: BankState) -> bool:
        try:
            with self._locked():
                if self.read().version != before.version:
                    return False
                write_whole(self.path, after.to_json().encode())
                return True
        except OSError as error:
            raise PointerUnreachable(f"cannot write {self.path}: {error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # The lock has a file of its own, which stays: the pointer's file is another one after each
        # write, and a lock on the old one would exclude nobody.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(
            self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644
        )
        deadline = time.monotonic() + self._lock_s
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise PointerUnreachable(
                            f"another writer has held {self.path} for {self._lock_s:g} s"
                        ) from None
                    time.sleep(_RETRY_S)
            yield
        finally:
            os.close(handle)
