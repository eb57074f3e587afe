from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reelsight.errors import QueryError, StoreError
from reelsight.nouns.schema import SCHEMA_VERSION, report_schema
from reelsight.store.query import query
from reelsight.store.runs import RunStore
from tests.made_runs import DIM, dead, manifest_of, started, stored_run, table_of, tagged


def test_a_row_holds_the_whole_report(tmp_path: Path) -> None:
    report = tagged("a")
    run = stored_run(tmp_path, report, dead("b"))
    (path,) = [path for path in run.paths() if ".tagged." in path]
    table = pq.ParquetFile(path).read()
    assert table.schema.metadata[b"reelsight.schema_version"] == SCHEMA_VERSION.encode()
    assert table.schema.equals(report_schema(DIM))
    row = table.to_pylist()[0]
    plain = report.to_dict()
    assert row["tags"] == [t | {"segments": list(t["segments"])} for t in plain["tags"]]
    assert row["clip"] == plain["clip"]
    assert row["provenance"] == plain["provenance"]
    embedding = [0.5] * DIM
    assert row["frames"] == [frame | {"embedding": embedding} for frame in plain["frames"]]


def test_the_views_flatten_a_run(tmp_path: Path) -> None:
    carried = pa.struct({"asset": pa.int64(), "codec": pa.string()})
    stored_run(
        tmp_path,
        tagged("a", asset=7, codec="theirs"),
        tagged("c", 0, asset=9, codec="theirs"),
        dead("b", asset=8, codec="theirs"),
        kind=carried,
    )
    clips = query(
        tmp_path, "select clip_id, asset, codec, manifest_codec, tag_count from clips order by 1"
    )
    assert clips.rows == [
        ("a", 7, "h264", "theirs", 1),
        ("b", 8, None, "theirs", 0),
        ("c", 9, "h264", "theirs", 1),
    ]
    assert query(tmp_path, "select clip_id, label, score from tags order by 1").rows == [
        ("a", "cat", 0.75),
        ("c", "cat", 0.75),
    ]
    assert query(tmp_path, "select pts, embedding from frames").rows == [
        (0.0, [0.5] * DIM),
        (1.0, [0.5] * DIM),
    ]
    assert query(tmp_path, "select clip_id, stage, code from dead_letters").rows == [
        ("b", "fetch", "fetch.missing")
    ]


def test_names_that_stand_twice_are_told_apart_and_rows_are_capped(tmp_path: Path) -> None:
    stored_run(tmp_path, tagged("a"))
    assert query(tmp_path, "select 1 as a, 2 as a, 3 as a").columns == ("a", "a_1", "a_2")
    capped = query(tmp_path, "select * from range(5)", limit=3)
    assert [row[0] for row in capped.rows] == [0, 1, 2]
    assert capped.more
    assert not query(tmp_path, "select * from range(3)", limit=3).more


def test_readers_go_by_commits_never_by_listing(tmp_path: Path) -> None:
    run = stored_run(tmp_path, tagged("a"), dead("b"))
    stray = Path(run.paths()[0]).with_name("0009-stray.tagged.parquet")
    pq.write_table(table_of([tagged("stray")]), stray)
    assert query(tmp_path, "select count(*) from clips").rows == [(2,)]


def test_the_newest_complete_run_is_read_unless_another_is_named(tmp_path: Path) -> None:
    first = stored_run(tmp_path, tagged("a"))
    second = stored_run(tmp_path, tagged("b"))
    third = started(tmp_path, manifest_of(tmp_path / "m", ["c"]))
    sql = "select clip_id from clips"
    assert query(tmp_path, sql).rows == [("b",)]
    assert query(tmp_path, sql, run_id=first.run_id).rows == [("a",)]
    assert RunStore(tmp_path).ids() == [first.run_id, second.run_id, third.run_id]
    with pytest.raises(StoreError) as caught:
        query(tmp_path, sql, run_id=third.run_id)
    assert caught.value.code == "store.no_files"


def test_errors_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no complete run in .*; runs there: none") as caught:
        query(tmp_path, "select 1")
    assert caught.value.code == "store.no_run"
    run = stored_run(tmp_path, tagged("a"))
    for sql in ("select * from klips", "", ";;", "selct 1"):
        with pytest.raises(QueryError) as caught:
            query(tmp_path, sql)
        assert caught.value.code == "store.bad_query"
        assert "Traceback" not in caught.value.message
    (tmp_path / "runs" / run.run_id / "plan.json").write_text("{}")
    with pytest.raises(StoreError, match="is no plan of a run") as broken:
        query(tmp_path, "select 1")
    assert broken.value.code == "store.plan_damaged"
