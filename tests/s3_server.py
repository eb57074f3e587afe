"""A server that speaks S3, as a process of the tests' own, and buckets that break.

It answers one request after the other: moto looks whether a name is taken and takes it in two
steps, between which another of its threads would come, as S3's own servers do not let it.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from reelsight.store.bucket import Bucket
from reelsight.store.location import S3Place

__all__ = ["DyingBucket", "FlakyBucket", "LosingBucket", "MeetingBucket", "s3_server"]

MOTO_SERVER = Path(__file__).parents[1] / ".venv-s3" / "bin" / "moto_server"
_SERVE = """
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
app = DomainDispatcherApplication(create_backend_app)
run_simple("127.0.0.1", 0, app, threaded=False)
"""


@contextmanager
def s3_server() -> Iterator[str]:
    """A server with one empty bucket; yields `s3://k:s@runs/PREFIX?...` to replace PREFIX in."""
    program = Path(os.environ.get("REELSIGHT_MOTO_SERVER", MOTO_SERVER)).with_name("python")
    if not program.is_file():
        pytest.skip(f"no S3 server at {program.parent}: make .venv-s3/.done")
    with subprocess.Popen(
        [str(program), "-c", _SERVE], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        said = []
        for line in server.stderr:
            said.append(line)
            if found := re.search(r"http://([\d.]+:\d+)", line):
                break
        else:
            pytest.fail(f"it ended: {''.join(said)}")
        # It logs every request, and would stand still once nobody reads that.
        log = threading.Thread(target=server.stderr.read)
        log.start()
        try:
            query = f"scheme=http&endpoint_override={found[1]}&region=us-east-1"
            uri = f"s3://k:s@runs/PREFIX?{query}"
            Bucket(S3Place.parse(uri))._s3().create_bucket(Bucket="runs")
            yield uri
        finally:
            server.terminate()
            log.join()


class FaultyBucket(Bucket):
    """Asks before and after each request."""

    def before(self, step: str) -> None:
        """May raise."""

    def after(self, step: str) -> None:
        """May raise."""

    def put(self, key: str, content: bytes) -> None:
        self.before("put")
        super().put(key, content)
        self.after("put")

    def put_absent(self, key: str, content: bytes) -> bool:
        self.before("put_absent")
        written = super().put_absent(key, content)
        self.after("put_absent")
        return written

    def get(self, key: str, start: int | None = None, end: int | None = None) -> bytes | None:
        self.before("get")
        content = super().get(key, start, end)
        self.after("get")
        return content

    def size(self, key: str) -> int | None:
        self.before("size")
        size = super().size(key)
        self.after("size")
        return size

    def keys(self, prefix: str, delimiter: str = "") -> Iterator[str]:
        self.before("keys")
        yield from super().keys(prefix, delimiter)
        self.after("keys")

    def delete(self, key: str) -> None:
        self.before("delete")
        super().delete(key)
        self.after("delete")


class FlakyBucket(FaultyBucket):
    """Fails: half of the time the request never left, else its answer was lost to a stall.

    Args:
        place: Which bucket.
        share: Of the requests that fail.
        seed: Of which ones.
    """

    def __init__(self, place: S3Place, share: float, seed: int) -> None:
        super().__init__(place)
        self._share = share / 2
        self._random = random.Random(seed)
        self.failed = 0
        self.lost = 0

    def before(self, step: str) -> None:
        if self._random.random() < self._share:
            self.failed += 1
            raise ConnectionClosedError(endpoint_url="test")

    def after(self, step: str) -> None:
        if self._random.random() < self._share:
            self.failed += 1
            self.lost += step == "put_absent"
            raise ReadTimeoutError(endpoint_url="test")


class DyingBucket(FaultyBucket):
    """Kills its process right behind a commit.

    Args:
        place: Which bucket.
        commits: Behind which one, from 1.
    """

    def __init__(self, place: S3Place, commits: int) -> None:
        super().__init__(place)
        self.left = commits

    def put_absent(self, key: str, content: bytes) -> bool:
        written = super().put_absent(key, content)
        self.left -= "/commits/" in key
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return written


class MeetingBucket(FaultyBucket):
    """Offers a commit when another process does, and not before.

    Args:
        place: Which bucket.
        meeting: Where both come.
    """

    def __init__(self, place: S3Place, meeting: Barrier) -> None:
        super().__init__(place)
        self._meeting = meeting

    def put_absent(self, key: str, content: bytes) -> bool:
        if "/commits/" in key:
            self._meeting.wait()
        return super().put_absent(key, content)


class LosingBucket(FaultyBucket):
    """Loses the answer to the next conditional put, when it is told to.

    Attributes:
        armed: Whether it will.
    """

    armed = False

    def after(self, step: str) -> None:
        if self.armed and step == "put_absent":
            self.armed = False
            raise ReadTimeoutError(endpoint_url="test")
