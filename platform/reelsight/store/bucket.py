"""The requests to a bucket of S3, one method each, and each tried once.

A class and not functions, so that a test can break every single request of the code that
production runs. It knows nothing of runs, and leaves it to others what is tried again.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

from reelsight.errors import StoreError
from reelsight.store.location import S3Place

try:
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.session import get_session
except ImportError as error:
    raise StoreError(
        "runs on S3 want botocore, which is not installed",
        code="store.no_s3",
        hint="pip install 'reelsight[s3]' here and on every node.",
    ) from error

__all__ = ["Bucket", "RequestError", "may_pass", "status_of"]

RequestError = (BotoCoreError, ClientError)
_CONNECT_S = 10.0
_MAKING = threading.Lock()
_ABSENT = {"NoSuchKey", "404"}
_CONDITION = {"PreconditionFailed", "412"}
# A write to the same key was under way; S3 asks to try again.
_PASSING = {408, 409, 429}


class Bucket:
    """One bucket; picklable, for its clients stay with their processes.

    Args:
        place: Which bucket, and who asks.
        timeout_s: Seconds without a byte after which an answer counts as lost.

    Every method raises a RequestError.
    """

    def __init__(self, place: S3Place, timeout_s: float = 60.0) -> None:
        self.place = place
        self._timeout_s = timeout_s

    def put(self, key: str, content: bytes) -> None:
        """Write an object, in the place of one that is there."""
        self._s3().put_object(Bucket=self.place.bucket, Key=key, Body=content)

    def put_absent(self, key: str, content: bytes) -> bool:
        """Write an object if there is none; says whether it was written."""
        try:
            self._s3().put_object(Bucket=self.place.bucket, Key=key, Body=content, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] in _CONDITION:
                return False
            raise
        return True

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        """An object's bytes, or those from `start` up to `end`; None when there is no object."""
        some = {} if start is None or end is None else {"Range": f"bytes={start}-{end - 1}"}
        try:
            answer = self._s3().get_object(Bucket=self.place.bucket, Key=key, **some)
        except ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return None
            raise
        with answer["Body"] as body:
            content: bytes = body.read()
        return content

    def size(self, key: str) -> int | None:
        """An object's size in bytes; None when there is none."""
        try:
            answer = self._s3().head_object(Bucket=self.place.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in _ABSENT:
                return None
            raise
        return int(answer["ContentLength"])

    def keys(self, prefix: str, delimiter: str = "") -> Iterator[str]:
        """Keys that begin with a prefix, each cut behind the first delimiter that follows it."""
        pages = self._s3().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.place.bucket, Prefix=prefix, Delimiter=delimiter):
            yield from (item["Key"] for item in page.get("Contents", ()))
            yield from (item["Prefix"] for item in page.get("CommonPrefixes", ()))

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        self._s3().delete_object(Bucket=self.place.bucket, Key=key)

    def _s3(self) -> Any:
        with _MAKING:
            return _client(self.place, self._timeout_s, os.getpid())


@cache
def _session() -> Any:
    """Reads what AWS's own tools read, and finds credentials once a process."""
    return get_session()


@cache
def _client(place: S3Place, timeout_s: float, process: int) -> Any:
    """A client takes a while to make, and must not be shared over a fork; threads may share it."""
    del process
    return _session().create_client(
        "s3",
        region_name=place.region,
        endpoint_url=place.endpoint,
        aws_access_key_id=place.access_key,
        aws_secret_access_key=place.secret_key,
        config=Config(
            connect_timeout=min(_CONNECT_S, timeout_s),
            read_timeout=timeout_s,
            retries={"total_max_attempts": 1},
        ),
    )


def status_of(error: Exception) -> int:
    """The HTTP status of an answer that refused; 0 when there was none."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def may_pass(error: Exception) -> bool:
    """Whether the same request may come through later."""
    status = status_of(error)
    return isinstance(error, HTTPClientError) or status in _PASSING or status in range(500, 600)
