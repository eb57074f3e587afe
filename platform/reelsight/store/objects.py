"""Where a run lies: objects by name, put whole and durably, and created only if absent.

Create-if-absent is the one thing that commits are made of. On a disk it is a hard link to a synced
temporary file, which is there whole or not at all, and which exactly one of any number of drivers
gets; on S3 it is a conditional put (`reelsight.store.s3`). A store that cannot do it is refused.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import uuid4

import pyarrow as pa

from reelsight.errors import StoreError
from reelsight.store.disk import Disk
from reelsight.store.location import Location, is_s3

__all__ = ["LocalObjects", "Objects", "open_objects"]

T = TypeVar("T")
_TRIES = 3
_PASSING = {errno.EIO, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.EINTR, errno.EBUSY}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Objects(Protocol):
    """Objects by name, such as `runs/000001-ab/plan.json`; must be picklable for Ray's workers.

    Every method raises StoreError: `store.full`, `store.unwritable`, `store.unreadable`.

    Attributes:
        on_disk: Whether `path` says what Arrow and DuckDB open by themselves.
    """

    on_disk: ClassVar[bool]

    def prove(self) -> None:
        """Refuse a store that cannot create only if absent, before anything is written.

        Raises:
            StoreError: `store.no_conditional_create`.
        """

    def put(self, name: str, content: Any) -> None:
        """Write an object durably, in the place of one that is there."""

    def create(self, name: str, content: bytes) -> bool:
        """Write an object durably unless there is one; says whether it was written by this call.

        After False there is one. A call that broke may have written it all the same.
        """

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None when there is none."""

    def open(self, name: str) -> pa.NativeFile:
        """An object to be read at any place.

        Raises:
            OSError: There is none.
        """

    def names(self, below: str) -> list[str]:
        """Names of all objects below a prefix that ends where a directory would, in order."""

    def children(self, below: str) -> list[str]:
        """What comes next in the names right below such a prefix, in order."""

    def remove(self, name: str) -> None:
        """Remove an object, if it can be done: what remains is garbage, not damage."""

    def settle(self, below: str) -> None:
        """Make durable whatever anybody created right below a prefix."""

    def path(self, name: str) -> str:
        """What people, and on a disk Arrow and DuckDB, open."""


class LocalObjects:
    """Objects as files below a directory that every node sees.

    Args:
        root: The directory; made when something is written.
        disk: Its steps.
    """

    on_disk: ClassVar[bool] = True

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root.absolute()
        self._disk = disk or Disk()
        self._durable: set[Path] = set()

    def prove(self) -> None:
        """Nothing to do: the first link says it."""

    def put(self, name: str, content: Any) -> None:
        path = self.root / name

        def written() -> None:
            self._directory(path.parent)
            self._disk.write(path, content)
            self._disk.sync(path)
            self._disk.sync(path.parent)

        try:
            _steadily(written, path)
        except StoreError:
            self.remove(name)
            raise

    def create(self, name: str, content: bytes) -> bool:
        path = self.root / name

        def linked() -> bool:
            self._directory(path.parent)
            away = path.parent / f".{uuid4().hex}~"
            try:
                self._disk.write(away, content)
                self._disk.sync(away)
                try:
                    self._disk.link(away, path)
                except FileExistsError:
                    return False
                except OSError as error:
                    if error.errno not in _NO_LINKS:
                        raise
                    raise _no_create(str(self.root), str(error)) from error
                self._disk.sync(path.parent)
                return True
            finally:
                with suppress(OSError):
                    self._disk.remove(away)

        return _steadily(linked, path)

    def read(self, name: str) -> bytes | None:
        path = self.root / name
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error}", code="store.unreadable") from error

    def open(self, name: str) -> pa.NativeFile:
        return pa.OSFile(self.path(name))

    def names(self, below: str) -> list[str]:
        start = self.root / below
        try:
            found = [p for p in start.rglob("*") if p.is_file()]
        except OSError as error:
            raise StoreError(f"cannot list {start}: {error}", code="store.unreadable") from error
        return sorted(p.relative_to(self.root).as_posix() for p in found)

    def children(self, below: str) -> list[str]:
        start = self.root / below
        try:
            return sorted(path.name for path in start.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StoreError(f"cannot list {start}: {error}", code="store.unreadable") from error

    def remove(self, name: str) -> None:
        with suppress(OSError):
            self._disk.remove(self.root / name)

    def settle(self, below: str) -> None:
        path = self.root / below
        if path.is_dir():
            _steadily(lambda: self._disk.sync(path), path)

    def path(self, name: str) -> str:
        return str(self.root / name)

    def _directory(self, path: Path) -> None:
        """Make a directory and those above it, durably: whoever made one may not have synced it."""
        if path in self._durable:
            return
        if path == self.root:
            path.parent.mkdir(parents=True, exist_ok=True)
        else:
            self._directory(path.parent)
        self._disk.make_directory(path)
        self._disk.sync(path.parent)
        self._durable.add(path)


def open_objects(location: Location) -> Objects:
    """The objects of an output directory, or of `s3://bucket/prefix`.

    Raises:
        StoreError: `store.no_conditional_create`: nothing there can be created only if absent;
            `store.bad_location`; `store.no_s3`: the extra `s3` is not installed.
    """
    if is_s3(location):
        from reelsight.store.s3 import S3Objects  # noqa: PLC0415 - An extra.

        return S3Objects.at(str(location))
    # A Path has made one slash of two.
    if str(location).startswith(("s3:/", "gs:/", "http:/", "https:/")):
        raise _no_create(str(location), "runs are written to file systems and to s3://")
    return LocalObjects(Path(location))


def _no_create(where: str, why: str) -> StoreError:
    return StoreError(
        f"{where} cannot create a file only if it is absent: {why}",
        code="store.no_conditional_create",
        hint="Write to a file system with hard links that every node sees, such as ext4 or NFS, or "
        "to s3://bucket/prefix.",
    )


def _steadily(step: Callable[[], T], path: Path) -> T:
    """Try again what may pass; each try begins anew, for a failed sync may have dropped data."""
    tries = _TRIES
    while True:
        tries -= 1
        try:
            return step()
        except OSError as error:
            if error.errno in _PASSING and tries:
                continue
            full = error.errno in _FULL
            raise StoreError(
                f"cannot write {path}: {error}", code="store.full" if full else "store.unwritable"
            ) from error
