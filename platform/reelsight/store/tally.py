"""ShardTally: which shards are whole, counted from files that arrive in any order.

A shard is whole when its files hold as many rows as the manifest has there, and the digest of their
ids is the manifest's. Ray may give a task's rows again after a crash, cut into other blocks: then a
count alone could be right for the wrong rows. Such a shard is spoilt, and made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reelsight.store.commits import DataFile
from reelsight.store.ids import sum_digests

__all__ = ["Expected", "ShardTally"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a shard must hold.

    Attributes:
        rows: Number of clips.
        ids: Digest of their ids.
    """

    rows: int
    ids: str


class ShardTally:
    """Files of shards that are not whole yet; holds no ids and no rows.

    Args:
        expected: What each shard must hold.

    Attributes:
        spoilt: Files that fitted into no shard.
    """

    def __init__(self, expected: Mapping[int, Expected]) -> None:
        self.expected = expected
        self._open: dict[int, list[DataFile]] = {}
        self._closed: set[int] = set()
        self.spoilt: list[DataFile] = []

    def add(self, shard: int, file: DataFile) -> list[DataFile] | None:
        """Count a file in; returns all files of its shard once that is whole."""
        expected = self.expected.get(shard)
        if expected is None or shard in self._closed:
            self.spoilt.append(file)
            return None
        files = self._open.setdefault(shard, [])
        files.append(file)
        rows = sum(f.rows for f in files)
        if rows < expected.rows:
            return None
        self._closed.add(shard)
        del self._open[shard]
        if rows == expected.rows and sum_digests(f.ids for f in files) == expected.ids:
            return files
        self.spoilt += files
        return None
