"""NodeCache: what many workers of a node need is made by one of them, once, while the others wait.

An entry is a directory under its key. Its states, and who sees what:

    absent    no directory; the first worker that takes the key's lock makes it
    making    the lock is held; a hidden scratch directory fills up; the others wait for the lock
    ready     the directory is there, by one rename; nobody takes the lock any more

Where the maker can die, and what happens then. The lock is the kernel's (flock), which lets go of
it when the last process that holds the file ends, however it ends:

    after taking the lock       the next waiter takes the lock and makes the entry
    with half a scratch         the same; the next maker deletes what the dead one left
    after the rename            the next waiter takes the lock and finds the entry ready
    power loss around a rename  the entry is absent or whole; who opens a package verifies it

The maker's process id stands in the lock file for people who ask who they wait for. Lock files are
never deleted, because two workers could then hold two files of one name. A child process that was
forked by the maker and outlives it keeps the lock. The directory must be on a disk of the node.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reelsight.errors import PackageError

__all__ = ["NodeCache"]

_POLL_S = 0.1
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")


class NodeCache:
    """Directories that are made once a node.

    Args:
        root: On a local disk; made when the first entry is.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def obtain(
        self,
        key: str,
        make: Callable[[Path], object],
        *,
        timeout_s: float | None = None,
        on_wait: Callable[[int | None], None] | None = None,
    ) -> Path:
        """The entry of a key, made by this worker or by another one meanwhile.

        Args:
            key: A plain name.
            make: Fills an empty directory; what it raises is raised here and leaves no entry.
            timeout_s: How long to wait for another maker; None waits as long as it lives.
            on_wait: Called once, with the other maker's process id where it is known.

        Raises:
            PackageError: `package.unwritable`, or `package.wait_timeout`.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no plain name")
        entry = self.root / key
        if entry.is_dir():
            return entry
        with self._locked(key, timeout_s, on_wait):
            if entry.is_dir():
                return entry
            self._make(key, make)
        return entry

    def discard(self, key: str) -> None:
        """Forget an entry that turned out to be damaged; files that are open stay readable."""
        with self._locked(key, None, None):
            try:
                away = Path(tempfile.mkdtemp(prefix=f".{key}~", dir=self.root))
                os.rename(self.root / key, away / "old")
            except FileNotFoundError:
                pass  # Another worker was quicker.
            except OSError as error:
                raise _unwritable(self.root, error) from error
            self._sweep(key)

    def _make(self, key: str, make: Callable[[Path], object]) -> None:
        self._sweep(key)
        try:
            scratch = Path(tempfile.mkdtemp(prefix=f".{key}~", dir=self.root))
        except OSError as error:
            raise _unwritable(self.root, error) from error
        try:
            make(scratch)
            try:
                scratch.chmod(0o755)
                os.rename(scratch, self.root / key)
            except OSError as error:
                raise _unwritable(self.root, error) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _sweep(self, key: str) -> None:
        """Delete what dead makers of this key left; its lock is held."""
        for left in self.root.glob(f".{key}~*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextmanager
    def _locked(
        self, key: str, timeout_s: float | None, on_wait: Callable[[int | None], None] | None
    ) -> Iterator[None]:
        locks = self.root / ".locks"
        try:
            locks.mkdir(parents=True, exist_ok=True)
            handle = os.open(locks / key, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unwritable(self.root, error) from error
        try:
            self._wait(handle, key, timeout_s, on_wait)
            os.truncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(handle)

    def _wait(
        self,
        handle: int,
        key: str,
        timeout_s: float | None,
        on_wait: Callable[[int | None], None] | None,
    ) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            owner = _owner(handle)
        if on_wait is not None:
            on_wait(owner)
        if timeout_s is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
            return
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            time.sleep(_POLL_S)  # flock cannot be waited for with a timeout.
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                continue
        raise PackageError(
            f"process {owner or 'unknown'} has been making {key} for {timeout_s:g} s",
            code="package.wait_timeout",
            hint="See what that process and its children do; end them if they hang.",
        )


def _owner(handle: int) -> int | None:
    text = os.pread(handle, 32, 0)
    return int(text) if text.isdigit() else None


def _unwritable(root: Path, error: OSError) -> PackageError:
    return PackageError(
        f"cannot write {root}: {error}",
        code="package.unwritable",
        hint="Check cache_dir: space, permissions.",
    )
