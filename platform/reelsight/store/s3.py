"""Where a run lies on S3: the objects of a prefix, created only if absent by `If-None-Match: *`.

A put that was answered is whole and durable. One whose answer was lost may have got through, and
its next try then finds the name taken; whoever creates reads who won, as on a disk.
"""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import pyarrow as pa

from reelsight.errors import StoreError
from reelsight.store.bucket import Bucket, RequestError, may_pass, status_of
from reelsight.store.location import S3Place

__all__ = ["S3Objects"]

T = TypeVar("T")
_AHEAD_BYTES = 2**18
_NOT_IMPLEMENTED = 501


class S3Objects:
    """Objects of a prefix of a bucket.

    Args:
        bucket: Its requests.
        pause_s: Seconds before the second try of a request that may pass, at most; doubled with
            each further one.
        tries: Of a request that may pass.
    """

    on_disk: ClassVar[bool] = False

    def __init__(self, bucket: Bucket, pause_s: float = 0.2, tries: int = 6) -> None:
        self._bucket = bucket
        self._pause_s = pause_s
        self._tries = tries
        self._proved = False

    @classmethod
    def at(cls, location: str) -> S3Objects:
        """The objects of `s3://bucket/prefix`.

        Raises:
            StoreError: `store.bad_location`.
        """
        return cls(Bucket(S3Place.parse(location)))

    def prove(self) -> None:
        """See it refuse a name that is taken, once for each process."""
        if self._proved:
            return
        key = self._key(f".probe-{uuid4().hex}")
        where = str(self._bucket.place)
        try:
            # The first try may be refused only because its own answer was lost: proof enough.
            taken = not (self._put_absent(key, b"1") and self._put_absent(key, b"2"))
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, Exception) and status_of(cause) == _NOT_IMPLEMENTED:
                raise _no_condition(where, "it does not know If-None-Match") from error
            raise
        finally:
            with suppress(*RequestError):
                self._bucket.delete(key)
        if not taken:
            raise _no_condition(where, "it took a second object of one name")
        self._proved = True

    def put(self, name: str, content: Any) -> None:
        key, body = self._key(name), bytes(memoryview(content))
        self._steadily(lambda: self._bucket.put(key, body), "write", key)

    def create(self, name: str, content: bytes) -> bool:
        self.prove()
        return self._put_absent(self._key(name), content)

    def read(self, name: str) -> bytes | None:
        key = self._key(name)
        return self._steadily(lambda: self._bucket.get(key), "read", key)

    def open(self, name: str) -> pa.NativeFile:
        key = self._key(name)
        size = self._steadily(lambda: self._bucket.size(key), "read", key)
        if size is None:
            raise FileNotFoundError(self.path(name))

        def fetch(start: int, end: int) -> bytes:
            some = self._steadily(lambda: self._bucket.get(key, start, end), "read", key)
            if some is None or len(some) != end - start:
                raise OSError(f"{self.path(name)} is not what it was when it was opened")
            return some

        ahead = io.BufferedReader(_Ranges(fetch, size), _AHEAD_BYTES)
        return pa.PythonFile(ahead, mode="r")

    def names(self, below: str) -> list[str]:
        return self._list(below, "", self._key(""))

    def children(self, below: str) -> list[str]:
        return [name.rstrip("/") for name in self._list(below, "/", self._key(f"{below}/"))]

    def remove(self, name: str) -> None:
        with suppress(*RequestError):
            self._bucket.delete(self._key(name))

    def settle(self, below: str) -> None:
        """Nothing to do: what anybody can see is durable."""

    def path(self, name: str) -> str:
        return f"{self._bucket.place}/{name}"

    def _key(self, name: str) -> str:
        prefix = self._bucket.place.prefix
        return f"{prefix}/{name}" if prefix else name

    def _put_absent(self, key: str, content: bytes) -> bool:
        return self._steadily(lambda: self._bucket.put_absent(key, content), "write", key)

    def _list(self, below: str, delimiter: str, away: str) -> list[str]:
        prefix = self._key(f"{below}/")
        found = self._steadily(lambda: [*self._bucket.keys(prefix, delimiter)], "list", prefix)
        return sorted(key.removeprefix(away) for key in found)

    def _steadily(self, step: Callable[[], T], verb: str, key: str) -> T:
        """Try again what may pass."""
        code = "unwritable" if verb == "write" else "unreadable"
        left = self._tries
        pause = self._pause_s
        while True:
            left -= 1
            try:
                return step()
            except RequestError as error:
                if left and may_pass(error) and status_of(error) != _NOT_IMPLEMENTED:
                    time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                    pause *= 2
                    continue
                where = f"s3://{self._bucket.place.bucket}/{key}"
                raise StoreError(f"cannot {verb} {where}: {error}", code=f"store.{code}") from error


class _Ranges(io.RawIOBase):
    """A file to read at any place; each read is a request.

    Args:
        fetch: Bytes from a start up to an end.
        size: Bytes.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = base + offset
        return self._at

    def readinto(self, into: Any, /) -> int:
        room = memoryview(into).cast("B")
        count = max(0, min(len(room), self._size - self._at))
        if count:
            room[:count] = self._fetch(self._at, self._at + count)
            self._at += count
        return count


def _no_condition(where: str, why: str) -> StoreError:
    return StoreError(
        f"{where} cannot create an object only if it is absent: {why}",
        code="store.no_conditional_create",
        hint="Write to a store that honours If-None-Match: * on puts, or to a file system with "
        "hard links.",
    )
