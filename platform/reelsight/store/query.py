"""SQL over a run: DuckDB views of the nested Reports.

clips         one row a clip, with its columns flat and the carried manifest columns beside them
tags          one row a tag
frames        one row a sampled frame, with its embedding
dead_letters  one row a failed clip, with the reason
marks         one row a view in which marks were read in a clip, with its soft bits
verdicts      one row a clip that was compared with a ledger, where that was done
reports       the rows as they are stored
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from reelsight.errors import QueryError, StoreError
from reelsight.nouns.schema import CLIP_TYPE, FAILURE_TYPE, SAMPLED_TYPE
from reelsight.store.location import Location
from reelsight.store.run import Run
from reelsight.store.runs import RunStore

__all__ = ["QueryResult", "connect", "query"]

_MARKS = {
    "clip_id": "VARCHAR",
    "carrier": "VARCHAR",
    "extractor_sha256": "VARCHAR",
    "engine": "VARCHAR",
    "policy": "VARCHAR",
    "frames": "BIGINT",
    "view": "VARCHAR",
    "presence": "DOUBLE",
    "soft": "FLOAT[]",
    "error": "VARCHAR",
}


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Rows of a query, with their column names, each name once.

    Attributes:
        columns: Names; the second column of a name gets `_1`.
        rows: Values, as many rows as were asked for.
        more: Whether there were more rows.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    more: bool


def query(
    root: Location, sql: str, *, run_id: str | None = None, limit: int | None = None
) -> QueryResult:
    """Run SQL over the newest complete run of an output directory.

    Args:
        root: The output directory of a backfill, or `s3://bucket/prefix`.
        sql: Any DuckDB statement over the views.
        run_id: A certain run instead of the newest.
        limit: Largest number of rows to fetch.

    Raises:
        QueryError: There is no such run, or the SQL does not fit.
    """
    run = RunStore(root).latest(run_id)
    try:
        with connect(run) as connection:
            cursor = connection.execute(sql)
            if not cursor or not cursor.description:
                raise QueryError(f"{sql!r} asks nothing")
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
            columns = _distinct([item[0] for item in cursor.description])
    except duckdb.Error as error:
        raise QueryError(str(error)) from error
    return QueryResult(columns, rows[:limit], limit is not None and len(rows) > limit)


def _distinct(names: list[str]) -> tuple[str, ...]:
    return tuple(
        f"{name}_{names[:i].count(name)}" if name in names[:i] else name
        for i, name in enumerate(names)
    )


def connect(run: Run) -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB connection with the views of what one run has committed.

    Raises:
        StoreError: `store.no_files`: the run has committed nothing.
    """
    named = {file.path: file.size_bytes for commit in run.commits() for file in commit.files}
    if not named:
        raise StoreError(
            f"run {run.run_id} has committed nothing yet",
            code="store.no_files",
            hint="`reelsight runs` shows what became of it.",
        )
    # Nothing calls out unless asked: no extension is fetched for a function that SQL happens to
    # name.
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    if run.objects.on_disk:
        paths = [run.objects.path(name) for name in named]
    else:
        from reelsight.store.run_files import RunFiles  # noqa: PLC0415 - fsspec is for S3 alone.

        files = RunFiles(run.objects, named)
        connection.register_filesystem(files)
        paths = files.paths()
    listed = ", ".join(_literal(path) for path in paths)
    with run.objects.open(next(iter(named))) as source:
        schema = pq.read_schema(source)
    statements = [*_views(listed, _carried(schema)), _marks_view("marks" in schema.names)]
    verdicts = run.objects.path(f"verdicts/{run.run_id}.parquet")
    # They are for their owner alone: whoever may not read them sees a run without.
    if os.access(verdicts, os.R_OK):
        found = f"read_parquet({_literal(verdicts)})"
        statements.append(f"CREATE VIEW verdicts AS SELECT * FROM {found}")
    for statement in statements:
        connection.execute(statement)
    return connection


def _views(files: str, carried: list[str]) -> list[str]:
    clip = [f.name for f in CLIP_TYPE if f.name != "clip_id"]
    sampled = [f.name for f in SAMPLED_TYPE]
    error = [f.name for f in FAILURE_TYPE]
    taken = {"clip_id", "status", "tag_count", *clip, *sampled}
    # A carried column that shares a name with one of ours keeps both readable.
    extra = [
        f"carried.{_name(c)} AS {_name(c if c not in taken else f'manifest_{c}')}" for c in carried
    ]
    columns = [
        "clip_id",
        "status",
        *(f"clip.{name} AS {name}" for name in clip),
        *(f"sampled.{name} AS {name}" for name in sampled),
        "len(tags) AS tag_count",
        *extra,
    ]
    failed = ", ".join(f"error.{name} AS {name}" for name in error)
    return [
        f"CREATE VIEW reports AS SELECT * FROM read_parquet([{files}], hive_partitioning=false)",
        f"CREATE VIEW clips AS SELECT {', '.join(columns)} FROM reports",
        "CREATE VIEW tags AS SELECT clip_id, tag.* FROM "
        "(SELECT clip_id, unnest(tags) AS tag FROM reports)",
        "CREATE VIEW frames AS SELECT clip_id, frame.* FROM "
        "(SELECT clip_id, unnest(frames) AS frame FROM reports)",
        f"CREATE VIEW dead_letters AS SELECT clip_id, clip.uri AS uri, {failed} "
        "FROM reports WHERE status = 'dead'",
    ]


def _marks_view(there: bool) -> str:
    """Readings; none of a run that asked for none."""
    if not there:
        columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in _MARKS.items())
        return f"CREATE VIEW marks AS SELECT {columns} WHERE false"
    # The scores of frames, weighed as soft bits are.
    weighed = "list_inner_product(attempt.presence, marks.quality) / list_sum(marks.quality)"
    return (
        "CREATE VIEW marks AS SELECT clip_id, "
        "marks.carrier.model || '@' || marks.carrier.version AS carrier, "
        "marks.extractor_sha256 AS extractor_sha256, marks.engine AS engine, "
        "marks.sampled.policy AS policy, len(marks.pts) AS frames, attempt.view AS view, "
        f"CASE WHEN list_sum(marks.quality) > 0 THEN {weighed} ELSE 0 END AS presence, "
        "attempt.soft AS soft, marks.error.code AS error FROM (SELECT clip_id, marks, "
        "unnest(CASE WHEN len(marks.attempts) > 0 THEN marks.attempts ELSE [NULL] END) AS attempt "
        "FROM reports WHERE marks IS NOT NULL)"
    )


def _carried(schema: pa.Schema) -> list[str]:
    return [f.name for f in schema.field("carried").type] if "carried" in schema.names else []


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
