"""Uploads: the bytes of jobs that have not ended, one file each."""

from __future__ import annotations

import os
from pathlib import Path

from deployments.jobs.errors import JobStoreBroken

__all__ = ["Uploads"]


class Uploads:
    """Files by the names of their jobs. Whether one is whole, the job's state says.

    Args:
        directory: Made, for its owner alone, where it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise JobStoreBroken(f"cannot keep uploads in {directory}: {error}") from error

    def write(self, job: str, data: bytes) -> None:
        """Bring an upload to the disk; it is there after a loss of power when this returns.

        Raises:
            JobStoreBroken: It cannot be written; nothing is left.
        """
        path = self._directory / job
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self._sync()
        except OSError as error:
            self.drop(job)
            raise JobStoreBroken(f"cannot keep an upload of {len(data)} bytes: {error}") from error

    def read(self, job: str) -> bytes:
        """The bytes of an upload.

        Raises:
            JobStoreBroken: They cannot be read.
        """
        try:
            return (self._directory / job).read_bytes()
        except OSError as error:
            raise JobStoreBroken(f"cannot read an upload: {error}") from error

    def drop(self, job: str) -> None:
        """Forget an upload; nothing happens where there is none.

        Raises:
            JobStoreBroken: It cannot be removed.
        """
        try:
            (self._directory / job).unlink(missing_ok=True)
        except OSError as error:
            raise JobStoreBroken(f"cannot remove an upload: {error}") from error

    def names(self) -> set[str]:
        """The jobs that have a file.

        Raises:
            JobStoreBroken: The directory cannot be read.
        """
        try:
            return set(os.listdir(self._directory))
        except OSError as error:
            raise JobStoreBroken(f"cannot list uploads: {error}") from error

    def _sync(self) -> None:
        directory = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
