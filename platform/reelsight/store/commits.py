"""Commits: one small object a shard, created only if absent, that makes the shard's files count.

A data file means nothing until a commit names it: whoever reads goes by commits, never by listing
files. The first commit of a shard wins; files of whoever came second are garbage. A shard's commits
are numbered: the backfill makes number 0, a replay makes the next one, which takes the place of the
one before as a whole.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from reelsight.errors import StoreError
from reelsight.store.ids import sum_digests
from reelsight.store.objects import Objects
from reelsight.store.sealed import seal, unseal

__all__ = ["Commit", "CommitLog", "DataFile", "Totals", "commit_of"]


_NAME = re.compile(r"(\d{6})\.(\d{4})\.json")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of a shard: rows of one status.

    Attributes:
        path: Relative to the output directory.
        status: tagged or dead.
        rows: Reports in it.
        size_bytes: Its size.
        sha256: Of its bytes, hex.
        ids: Digest of its clip ids.
        frames: Frames embedded in it.
        failures: Dead letters by code.
    """

    path: str
    status: str
    rows: int
    size_bytes: int
    sha256: str
    ids: str
    frames: int
    failures: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Commit:
    """What a shard consists of.

    Attributes:
        run_id: The run.
        shard: Its number.
        generation: 0 by the backfill, one more by each replay.
        attempt: Whose work it is: one try of a driver.
        rows: Reports, as many as the manifest has rows in this shard.
        ids: Digest of their clip ids.
        files: Data files, in order of path.
    """

    run_id: str
    shard: int
    generation: int
    attempt: str
    rows: int
    ids: str
    files: tuple[DataFile, ...]

    @property
    def name(self) -> str:
        """The object's name below `commits/`."""
        return f"{self.shard:06d}.{self.generation:04d}.json"

    @property
    def totals(self) -> Totals:
        return Totals.of(self.files)


def commit_of(
    run_id: str, shard: int, generation: int, attempt: str, files: Sequence[DataFile]
) -> Commit:
    """The commit of these files."""
    ordered = tuple(sorted(files, key=lambda f: f.path))
    rows = sum(f.rows for f in ordered)
    ids = sum_digests(f.ids for f in ordered)
    return Commit(run_id, shard, generation, attempt, rows, ids, ordered)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over data files."""

    tagged: int = 0
    dead: int = 0
    frames: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Sequence[DataFile]) -> Totals:
        failures: Counter[str] = Counter()
        for file in files:
            failures.update(file.failures)
        return cls(
            sum(f.rows for f in files if f.status == "tagged"),
            sum(f.rows for f in files if f.status == "dead"),
            sum(f.frames for f in files),
            dict(failures.most_common()),
        )

    def __add__(self, other: Totals) -> Totals:
        failures = Counter(self.failures)
        failures.update(other.failures)
        return Totals(
            self.tagged + other.tagged,
            self.dead + other.dead,
            self.frames + other.frames,
            dict(failures.most_common()),
        )


class CommitLog:
    """The commits of one run.

    Args:
        objects: Where the run lies.
        run_id: The run.
    """

    def __init__(self, objects: Objects, run_id: str) -> None:
        self._objects = objects
        self._run_id = run_id
        self._below = f"runs/{run_id}/commits"

    def heads(self) -> dict[int, int]:
        """The generation that counts of every committed shard; reads names alone."""
        heads: dict[int, int] = {}
        for name in self._objects.children(self._below):
            # A driver that is killed leaves a temporary file.
            if found := _NAME.fullmatch(name):
                shard, generation = map(int, found.groups())
                heads[shard] = max(heads.get(shard, 0), generation)
        return heads

    def read(self, shard: int, generation: int) -> Commit:
        """One commit.

        Raises:
            StoreError: `store.commit_damaged`: it is not there, or not what was written.
        """
        name = f"{self._below}/{shard:06d}.{generation:04d}.json"
        content = self._objects.read(name)
        try:
            if content is None:
                raise ValueError("it is not there")
            commit = _commit(unseal(content))
            if (commit.run_id, commit.shard) != (self._run_id, shard):
                raise ValueError(f"it is of run {commit.run_id}, shard {commit.shard}")
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{name} is no commit: {error}",
                code="store.commit_damaged",
                hint="Remove all commits of its shard and run the backfill again: it is made anew.",
            ) from error
        return commit

    def all(self) -> Iterator[Commit]:
        """The commits that count, in order of shard, one in memory at a time."""
        for shard, generation in sorted(self.heads().items()):
            yield self.read(shard, generation)

    def offer(self, commit: Commit) -> bool:
        """Commit a shard unless another did; says whether this commit is the one that counts.

        The files of a commit that lost are removed, as far as no other commit names them.
        """
        if self._objects.create(f"{self._below}/{commit.name}", seal(asdict(commit))):
            return True
        winner = self.read(commit.shard, commit.generation)
        if winner == commit:
            # An earlier try of this very call got through before it broke.
            self._objects.settle(self._below)
            return True
        kept = {file.path for file in winner.files}
        for file in commit.files:
            if file.path not in kept and f"/{commit.attempt}-" in file.path:
                self._objects.remove(file.path)
        return False

    def settle(self) -> None:
        """Make every commit durable that can be seen, whoever made it."""
        self._objects.settle(self._below)


def _commit(document: dict[str, Any]) -> Commit:
    files = tuple(DataFile(**item) for item in document.pop("files"))
    return Commit(**document, files=files)
