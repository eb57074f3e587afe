"""Retag: what a run that re-scores another one is bound to, and what it reads of it.

A run of this kind belongs to the content of its source: the source's plan and every commit that
counts there. A replay of the source makes it another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reelsight.errors import RunConflict, StoreError
from reelsight.store.commits import DataFile
from reelsight.store.objects import Objects
from reelsight.store.run import Run
from reelsight.store.runs import RunStore
from reelsight.store.sealed import digest_of

__all__ = ["decided_by", "read_reports", "shown_by", "source_of", "stored_files"]

_SHOWN = ("label", "score", "coverage")


def source_of(store: RunStore, bank_hash: str, run_id: str | None) -> Run:
    """The run whose embeddings are re-scored.

    Args:
        store: The runs.
        bank_hash: The bank that is asked for.
        run_id: The run that is asked for; None for the newest complete one, or for the source of
            the newest where that is such a run of this bank, so that the same command goes on.

    Raises:
        QueryError: `store.no_run`.
        RunConflict: `retag.unfinished`, or `retag.no_embeddings`.
    """
    if run_id is None and (ids := store.ids()):
        newest = store.open(ids[-1])
        if newest.plan.retag and newest.plan.decided["bank_hash"] == bank_hash:
            run_id = newest.plan.retag["retag.run"]
    source = store.latest(run_id)
    if not source.plan.decided.get("bank_hash"):
        raise RunConflict(
            f"run {source.run_id} has no embeddings: it was not made by a backfill with a bank",
            code="retag.no_embeddings",
            hint="Name a backfill with --run; `reelsight runs` lists what there is.",
        )
    if not source.complete:
        raise RunConflict(
            f"run {source.run_id} is not complete, so not all of its embeddings are there",
            code="retag.unfinished",
            hint="Finish it with the command that began it, then retag.",
        )
    return source


def decided_by(source: Run, stamp: Mapping[str, str]) -> dict[str, Any]:
    """What decides a Report of the new run: what did in the source, but for the stamp.

    Args:
        source: The run that is re-scored.
        stamp: Fields of the provenance that are not the source's: bank and code version.
    """
    digest = sha256(source.plan.to_bytes())
    for commit in source.log.all():
        digest.update(digest_of(asdict(commit)).encode())
    before = source.plan.decided
    return {
        **before,
        **stamp,
        "retag.run": source.run_id,
        "retag.digest": digest.hexdigest(),
        "retag.embedded_by": before.get("retag.embedded_by", before["code_version"]),
    }


def stored_files(source: Run, shards: Iterable[int]) -> list[DataFile]:
    """Data files of some shards that count now, in order of shard."""
    heads = source.log.heads()
    return [f for shard in sorted(shards) for f in source.log.read(shard, heads[shard]).files]


def read_reports(objects: Objects, path: str, digest: str) -> pa.Table:
    """Rows of a data file, if its bytes are what was committed.

    Args:
        objects: Where it lies.
        path: Its name.
        digest: sha256 of its bytes, hex.

    Raises:
        StoreError: `store.file_damaged`.
    """
    content = objects.read(path)
    if content is None or sha256(content).hexdigest() != digest:
        raise StoreError(
            f"{path} is {'gone' if content is None else 'not what was written'}",
            code="store.file_damaged",
            hint="Run `reelsight verify` on the run that it is of; it names all that is damaged.",
        )
    return pq.ParquetFile(pa.BufferReader(content)).read()


def shown_by(run: Run, files: Sequence[DataFile]) -> dict[str, dict[str, tuple[float, float]]]:
    """Score and coverage of every label that a tagged clip shows, by clip_id.

    Args:
        run: Whose.
        files: Of the run; those of dead letters are left out.

    Raises:
        StoreError: `store.file_damaged`.
    """
    columns = ["clip_id", *(f"tags.list.element.{name}" for name in _SHOWN)]
    shown = {}
    for file in files:
        if file.status != "tagged":
            continue
        try:
            with run.objects.open(file.path) as source:
                rows = pq.ParquetFile(source).read(columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"cannot read {file.path}: {error}",
                code="store.file_damaged",
                hint="Run `reelsight verify`, which names all that is damaged.",
            ) from error
        ids, tagged = rows["clip_id"].to_pylist(), rows["tags"].to_pylist()
        for clip_id, tags in zip(ids, tagged, strict=True):
            shown[clip_id] = {tag["label"]: (tag["score"], tag["coverage"]) for tag in tags}
    return shown
