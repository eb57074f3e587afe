from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reelsight.errors import QueryError, StoreError
from reelsight.nouns.clip import Clip
from reelsight.nouns.report import Failure, Provenance, Report, Sampled, Segment, Tag
from reelsight.nouns.schema import SCHEMA_VERSION, report_schema, reports_to_table
from reelsight.store.query import query
from reelsight.store.run import DataFile, RunRecord, RunStore, new_run_id, write_part

PROVENANCE = Provenance("m", "0" * 64, "fake/1/fp32", "1" * 16, "b", "2" * 64, "rate:1", "0.1.0")
DIM = 4
Kind: TypeAlias = "pa.StructType | None"


def tagged(clip_id: str, frames: int = 2, **carried: object) -> Report:
    tag = Tag("cat", 0.75, 0.5, 0, (Segment(0, 1000, 0.75, 0),))
    return Report(
        clip=Clip(
            clip_id, f"/{clip_id}.mp4", "a" * 64, 10, 2.0, 64, 48, "h264", "yuv420p", 0, 25.0
        ),
        status="tagged",
        provenance=PROVENANCE,
        tags=(tag,),
        pts=np.arange(frames, dtype=np.float64),
        weights=np.ones(frames),
        embeddings=np.full((frames, DIM), 0.5, dtype=np.float16),
        sampled=Sampled("rate:1", frames, frames, 0.0),
        carried=carried,
    )


def dead(clip_id: str, **carried: object) -> Report:
    failure = Failure("fetch", "fetch.missing", "no such file", "look again")
    return Report(Clip(clip_id, "gone"), "dead", PROVENANCE, failure=failure, carried=dict(carried))


def part(root: Path, run_id: str, status: str, reports: Sequence[Report], kind: Kind) -> DataFile:
    rows = [r for r in reports if r.status == status]
    carried = None if kind is None else pa.array([r.carried for r in rows], kind)
    return write_part(root, run_id, 0, status, reports_to_table(rows, DIM, carried))


def store_run(root: Path, *reports: Report, carried: Kind = None) -> RunRecord:
    record = RunRecord(new_run_id("abc"), "complete", config={})
    files = tuple(
        part(root, record.run_id, status, reports, carried) for status in ("tagged", "dead")
    )
    record = replace(record, files=files)
    RunStore(root).save(record)
    return record


def ids(*names: str) -> pa.ChunkedArray:
    return pa.chunked_array([list(names)], type=pa.string())


def test_a_row_holds_the_whole_report(tmp_path: Path) -> None:
    report = tagged("a")
    record = store_run(tmp_path, report, dead("b"))
    path = RunStore(tmp_path).paths(record)[0]
    table = pq.read_table(path)
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
    store_run(
        tmp_path,
        tagged("a", asset=7, codec="theirs"),
        tagged("c", 0, asset=9, codec="theirs"),
        dead("b", asset=8, codec="theirs"),
        carried=carried,
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
    store_run(tmp_path, tagged("a"))
    assert query(tmp_path, "select 1 as a, 2 as a, 3 as a").columns == ("a", "a_1", "a_2")
    capped = query(tmp_path, "select * from range(5)", limit=3)
    assert [row[0] for row in capped.rows] == [0, 1, 2]
    assert capped.more
    assert not query(tmp_path, "select * from range(3)", limit=3).more


def test_a_written_file_that_is_gone_is_named(tmp_path: Path) -> None:
    record = store_run(tmp_path, tagged("a"))
    store = RunStore(tmp_path)
    store.paths(record)[0].unlink()
    with pytest.raises(StoreError, match="cannot read back") as caught:
        store.problems(record, ids("a"))
    assert caught.value.code == "store.missing_file"


def test_readers_go_by_the_record_never_by_listing(tmp_path: Path) -> None:
    record = store_run(tmp_path, tagged("a"), dead("b"))
    stray = tmp_path / "data" / f"run={record.run_id}" / "status=tagged" / "part-000009.parquet"
    pq.write_table(reports_to_table([tagged("stray")], DIM), stray)
    assert query(tmp_path, "select count(*) from clips").rows == [(2,)]


def test_the_newest_complete_run_is_read_unless_another_is_named(tmp_path: Path) -> None:
    first = store_run(tmp_path, tagged("a"))
    second = store_run(tmp_path, tagged("b"))
    RunStore(tmp_path).save(RunRecord(new_run_id("abc"), "running", config={}))
    sql = "select clip_id from clips"
    assert query(tmp_path, sql).rows == [("b",)]
    assert query(tmp_path, sql, run_id=first.run_id).rows == [("a",)]
    assert [r.state for r in RunStore(tmp_path).records()] == ["complete", "complete", "running"]
    assert second.run_id in [r.run_id for r in RunStore(tmp_path).records()]


def test_lost_doubled_and_foreign_rows_are_named(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    record = store_run(tmp_path, tagged("a"), tagged("b"), tagged("b"), dead("c"))
    assert store.problems(record, ids("a", "b", "c")) == (
        "1 clips written more than once, such as ['b']",
    )
    assert store.problems(record, ids("a", "b", "d", "e")) == (
        "2 clips lost, such as ['d', 'e']",
        "1 clips not in the manifest, such as ['c']",
        "1 clips written more than once, such as ['b']",
    )
    good = store_run(tmp_path, tagged("a"), dead("c"))
    assert store.problems(good, ids("c", "a")) == ()


def test_a_retried_write_replaces_its_part(tmp_path: Path) -> None:
    first = write_part(tmp_path, "r", 3, "tagged", reports_to_table([tagged("a")], DIM))
    again = write_part(tmp_path, "r", 3, "tagged", reports_to_table([tagged("a")], DIM))
    assert first == again
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


def test_errors_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no complete run in .*; runs there: none") as caught:
        query(tmp_path, "select 1")
    assert caught.value.code == "store.no_run"
    store_run(tmp_path, tagged("a"))
    for sql in ("select * from klips", "", ";;", "selct 1"):
        with pytest.raises(QueryError) as caught:
            query(tmp_path, sql)
        assert caught.value.code == "store.bad_query"
        assert "Traceback" not in caught.value.message
    (tmp_path / "runs" / "zz.json").write_text("{}")
    with pytest.raises(StoreError, match="is not a run record"):
        query(tmp_path, "select 1")
