"""Data files of a run as a file system for DuckDB, where it cannot open them itself.

DuckDB's own reader of S3 is an extension that it would fetch when it runs. This one asks the
objects of the run, so a query sees what a commit names and nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fsspec import AbstractFileSystem

from reelsight.store.objects import Objects

__all__ = ["RunFiles"]

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


class RunFiles(AbstractFileSystem):
    """Files by name, such as `reelsight://data/000001-ab/000000/0001-4f.tagged.parquet`.

    Args:
        objects: Where the run lies.
        sizes: Bytes of every file that there is, by name.
    """

    protocol = "reelsight"
    cachable = False

    def __init__(self, objects: Objects, sizes: dict[str, int]) -> None:
        super().__init__()
        self._objects = objects
        self._sizes = sizes

    def paths(self) -> list[str]:
        """What DuckDB is to open."""
        return [f"{self.protocol}://{name}" for name in self._sizes]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        name = self._strip_protocol(path)
        if name not in self._sizes:
            raise FileNotFoundError(path)
        return {"name": name, "size": self._sizes[name], "type": "file"}

    def glob(self, path: str, **_: Any) -> list[str]:
        # Names are ours and hold no patterns.
        name = self._strip_protocol(path)
        return [name] if name in self._sizes else []

    def modified(self, path: str) -> datetime:
        """A data file is never changed."""
        del path
        return _ALWAYS

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode != "rb":
            raise PermissionError(f"{path} is not to be written")
        return self._objects.open(self._strip_protocol(path))
