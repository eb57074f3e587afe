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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from reelsight.errors import PackageError

__all__ = ["NodeCache"]

T = TypeVar("T")

# Codes of an entry that is not what its maker left, or that another worker is replacing.
_CURABLE = frozenset({"package.damaged", "package.missing", "package.malformed"})
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
        on_wait: Callable[[int | None], None] | None = None,
    ) -> Path:
        """The entry of a key, made by this worker or by another one meanwhile.

        Args:
            key: A plain name.
            make: Fills an empty directory; what it raises is raised here and leaves no entry.
            on_wait: Called once, with the other maker's process id where it is known.

        Raises:
            PackageError: `package.unwritable`.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} is no plain name")
        entry = self.root / key
        if entry.is_dir():
            return entry
        with self._locked(key, on_wait):
            if entry.is_dir():
                return entry
            self._make(key, make)
        return entry

    def obtain_whole(
        self,
        key: str,
        make: Callable[[Path], object],
        check: Callable[[Path], T],
        *,
        on_wait: Callable[[int | None], None] | None = None,
    ) -> T:
        """As obtain, and what `check` makes of the entry; one that is damaged is made anew, once.

        Args:
            key: A plain name.
            make: As for obtain.
            check: Raises a PackageError for an entry that cannot be used.
            on_wait: As for obtain.

        Raises:
            PackageError: As obtain; or as `check`, for what making anew does not cure.
        """
        made_by_us = False

        def making(scratch: Path) -> None:
            nonlocal made_by_us
            made_by_us = True
            make(scratch)

        def damaged(entry: Path) -> bool:
            try:
                check(entry)
            except PackageError as error:
                return error.code in _CURABLE
            return False

        try:
            return check(self.obtain(key, making, on_wait=on_wait))
        except PackageError as error:
            # What this worker just made would be made no better again.
            if made_by_us or error.code not in _CURABLE:
                raise
        self.discard(key, damaged)
        return check(self.obtain(key, make, on_wait=on_wait))

    def discard(self, key: str, unwanted: Callable[[Path], bool] = lambda _: True) -> None:
        """Forget an entry; files that are open stay readable.

        Args:
            key: A plain name.
            unwanted: Asked under the key's lock: another worker may have made the entry anew since
                its caller saw it.

        Raises:
            PackageError: `package.unwritable`.
        """
        entry = self.root / key
        with self._locked(key, None):
            if not entry.exists() or not unwanted(entry):
                return
            try:
                away = Path(tempfile.mkdtemp(prefix=f".{key}~", dir=self.root))
                os.rename(entry, away / "old")
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
    def _locked(self, key: str, on_wait: Callable[[int | None], None] | None) -> Iterator[None]:
        locks = self.root / ".locks"
        with ExitStack() as stack:
            try:
                locks.mkdir(parents=True, exist_ok=True)
                handle = os.open(locks / key, os.O_RDWR | os.O_CREAT, 0o644)
                stack.callback(os.close, handle)
                _wait(handle, on_wait)
                os.truncate(handle, 0)
            except OSError as error:
                raise _unwritable(self.root, error) from error
            with suppress(OSError):  # On a full disk: the id is for people, and the lock is held.
                os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield


def _wait(handle: int, on_wait: Callable[[int | None], None] | None) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        owner = _owner(handle)
    if on_wait is not None:
        on_wait(owner)
    fcntl.flock(handle, fcntl.LOCK_EX)


def _owner(handle: int) -> int | None:
    text = os.pread(handle, 32, 0)
    return int(text) if text.isdigit() else None


def _unwritable(root: Path, error: OSError) -> PackageError:
    return PackageError(
        f"cannot write {root}: {error}",
        code="package.unwritable",
        hint="Check cache_dir: space, permissions.",
    )
