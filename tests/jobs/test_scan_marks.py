"""Marks through real Ray Data: alone, beside the tags, and matched where the keys are."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from engines.catalog import recipe_for
from engines.mark_catalog import mark_recipe
from jobs.backfill import backfill
from jobs.replay import replay
from jobs.work import Marks
from reelsight.cli.app import app
from reelsight.copies.worker import MarkWorker
from reelsight.engine import EngineHost
from reelsight.errors import (
    ConfigError,
    EngineError,
    MarkError,
    QueryError,
    RunConflict,
    RunError,
)
from reelsight.media.decoder import InProcess
from reelsight.nouns.frames import Frames
from reelsight.nouns.mark_reading import reading_from
from reelsight.nouns.mark_trace import Trace
from reelsight.nouns.report import Failure, Report
from reelsight.nouns.schema import FAILURE_TYPE, reports_to_table
from reelsight.plan import plan_for
from reelsight.rayx.transit import loaded_row
from reelsight.runner import SequentialRunner
from reelsight.settings import Settings
from reelsight.steps import ClipRequest, load_clip
from reelsight.store.manifest import Manifest, write_manifest
from reelsight.store.query import query
from reelsight.store.run import RunRecord
from reelsight.store.run_plan import ManifestIdentity
from reelsight.store.runs import RunStore
from reelsight.store.verify import verify
from reelsight.tagging import Rescoring
from reelsight.watchlist import Question, match_run
from tests.marked_world import MarkedWorld

pytestmark = pytest.mark.usefixtures("ray_cluster")

CLIPS = ("leak", "clean", "broken")


@pytest.fixture(scope="module")
def manifest(marked_world: MarkedWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("manifest")
    (home / "broken.mp4").write_bytes(b"no clip\n" * 99)
    uris = (marked_world.leak, marked_world.clean, home / "broken.mp4")
    rows = [{"clip_id": name, "uri": str(uri)} for name, uri in zip(CLIPS, uris, strict=True)]
    return write_manifest(home / "m.parquet", rows)


@pytest.fixture(scope="module")
def scan(
    marked_world: MarkedWorld, manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunRecord]:
    """A scan of marks alone."""
    output = tmp_path_factory.mktemp("scan")
    return output, backfill(manifest, output, marked_world.settings(), marks="alone")


def rows_of(output: Path, record: RunRecord) -> dict[str, dict[str, object]]:
    found = [
        row
        for path in RunStore(output).latest(record.run_id).paths()
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    return {str(row["clip_id"]): row for row in found}


def reports(settings: Settings, manifest: Path) -> Iterator[Report]:
    """The same without Ray."""
    recipe, reader = recipe_for(settings), mark_recipe(settings)
    plan = plan_for(recipe, settings, reader)
    with (
        closing(EngineHost(recipe.open_engine())) as host,
        closing(EngineHost(reader.open_engine())) as extractor,
        SequentialRunner(plan, host, extractor) as runner,
    ):
        for row in pq.read_table(manifest).to_pylist():
            yield runner.report(ClipRequest(row["clip_id"], row["uri"]))


def test_a_scan_accounts_for_every_clip_and_holds_no_key(
    scan: tuple[Path, RunRecord], marked_world: MarkedWorld
) -> None:
    output, record = scan
    assert record.state == "complete"
    assert (record.tagged, record.dead) == (2, 1)
    rows = rows_of(output, record)
    assert rows["broken"]["error"]["code"] == "media.unrecognised_container"  # type: ignore[index]
    assert rows["broken"]["marks"] is None
    assert rows["leak"]["tags"] == rows["leak"]["frames"] == []
    assert rows["leak"]["sampled"]["returned"] == 12  # type: ignore[index]
    key = (marked_world.home / "tenant.key").read_text().strip()
    for path in (output / "runs" / record.run_id).rglob("*.json"):
        assert key not in path.read_text()
        assert str(marked_world.home / "marks.ledger") not in path.read_text()


def test_marks_beside_tags_are_those_of_a_scan_and_leave_the_tags_alone(
    scan: tuple[Path, RunRecord], marked_world: MarkedWorld, manifest: Path, tmp_path: Path
) -> None:
    settings = marked_world.settings()
    both = backfill(manifest, tmp_path / "both", settings, marks="beside")
    without = backfill(manifest, tmp_path / "without", settings)
    beside, alone, tagged = (
        rows_of(tmp_path / "both", both),
        rows_of(*scan),
        rows_of(tmp_path / "without", without),
    )
    for name in CLIPS:
        assert beside[name].pop("marks") == alone[name]["marks"]
    assert beside == tagged
    # Another bank may be tried on their embeddings later, and the marks stay.
    recipe = recipe_for(settings)
    rescoring = Rescoring(plan_for(recipe, settings).bank, "later")
    for path in RunStore(tmp_path / "both").latest().paths():
        rows = pq.ParquetFile(path).read()
        again = rescoring(rows)
        assert again.schema.metadata[b"reelsight.schema_version"] == b"3"
        assert again["marks"].equals(rows["marks"])
        assert again["tags"].equals(rows["tags"])
    dim = recipe.spec.dim
    told = reports_to_table(list(reports(settings, manifest)), dim).to_pylist()
    assert {row["clip_id"]: row["marks"] for row in told} == {
        name: alone[name]["marks"] for name in CLIPS
    }
    schema = pq.read_schema(RunStore(tmp_path / "without").latest().paths()[0])
    assert "marks" not in schema.names
    assert schema.metadata[b"reelsight.schema_version"] == b"2"
    none = query(tmp_path / "without", "SELECT * FROM marks")
    assert (none.rows, "soft" in none.columns) == ([], True)


def test_soft_bits_are_kept_to_the_bit(
    scan: tuple[Path, RunRecord], marked_world: MarkedWorld
) -> None:
    output, record = scan
    settings = marked_world.settings()
    (report,) = (r for r in reports(settings, Path(record.manifest)) if r.clip.clip_id == "leak")
    assert report.marks is not None
    for path in RunStore(output).latest(record.run_id).paths():
        table = pq.ParquetFile(path).read()
        for name, stored in zip(table["clip_id"].to_pylist(), table["marks"], strict=True):
            if name != "leak":
                continue
            facts, attempts = reading_from(stored)
            assert facts["carrier"]["model"] == "marks-reference"
            for one, other in zip(attempts, report.marks.attempts, strict=True):
                assert one.soft.dtype == np.float32
                assert one.soft.tobytes() == other.soft.tobytes()
                assert one.presence.tobytes() == other.presence.tobytes()
                assert one.quality.tobytes() == other.quality.tobytes()
                assert one.pts.tobytes() == other.pts.tobytes()


def test_the_watch_list_names_the_copy_and_counts_every_clip(
    scan: tuple[Path, RunRecord], marked_world: MarkedWorld
) -> None:
    output, record = scan
    traces: list[Trace] = []
    found = match_run(output, marked_world.settings(), told=traces.append)
    assert (found.clips, found.run_id) == (2, record.run_id)
    assert found.verdicts == {"IDENTIFIED": 1, "NO_EVIDENCE": 1, "media.unrecognised_container": 1}
    (named,) = found.found
    assert (named.clip_id, named.recipients) == ("leak", ("anna",))
    assert named.copies == (marked_world.serials["anna"],)
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600
    leak = next(trace for trace in traces if trace.accused)
    assert leak.trials.suspects == 2
    plain = leak.accused[0].log10_p + np.log10(22 * 2 * 2)
    assert leak.accused[0].log10_p_adjusted == pytest.approx(plain, abs=0.4)
    opened = leak.accused[0].copy_key
    assert opened is not None
    assert opened.encode() not in found.path.read_bytes()

    told = query(
        output, "SELECT clip_id, verdict, copies FROM verdicts ORDER BY verdict NULLS LAST"
    )
    assert told.rows[0] == ("leak", "IDENTIFIED", [marked_world.serials["anna"]])
    sql = "SELECT clip_id, view, frames, len(soft) FROM marks ORDER BY clip_id, view"
    assert query(output, sql).rows == [
        (name, view, 12, 12 * 64) for name in ("clean", "leak") for view in ("as it is", "mirrored")
    ]


def test_copies_issued_after_the_run_began_accuse_nobody(
    scan: tuple[Path, RunRecord], marked_world: MarkedWorld
) -> None:
    output, _ = scan
    early = Question(received_at="2001-01-01T00:00:00.000000Z")
    found = match_run(output, marked_world.settings(), question=early)
    (unknown,) = found.found
    assert (unknown.clip_id, unknown.verdict, unknown.copies) == ("leak", "MARKED_UNKNOWN", ())
    assert unknown.presence is not None
    assert unknown.presence > 0.9
    other = match_run(output, marked_world.settings(), question=Question(asset="another film"))
    assert [(a.clip_id, a.verdict) for a in other.found] == [("leak", "MARKED_UNKNOWN")]


def test_what_cannot_be_matched_or_scanned_says_so(
    marked_world: MarkedWorld,
    manifest: Path,
    scan: tuple[Path, RunRecord],
    tmp_path: Path,
) -> None:
    settings = marked_world.settings()
    with pytest.raises(ConfigError) as unkeyed:
        match_run(scan[0], settings.for_workers())
    assert unkeyed.value.code == "config.no_mark_key"
    with pytest.raises(ConfigError) as far:
        match_run("s3://bucket/runs", settings)
    assert far.value.code == "config.no_directory"
    backfill(manifest, tmp_path / "tags", settings)
    with pytest.raises(QueryError) as unread:
        match_run(tmp_path / "tags", settings)
    assert unread.value.code == "store.no_marks"
    stored = RunStore(tmp_path / "none").resume_or_start(
        {}, ManifestIdentity.of(manifest), lambda: Manifest.open(manifest)
    )
    with pytest.raises(RunError) as open_still:
        match_run(tmp_path / "none", settings, stored.run_id)
    assert open_still.value.code == "run.incomplete"
    undated = shutil.copytree(scan[0], tmp_path / "undated")
    plan_of = RunStore(undated).latest().plan
    (undated / plan_of.name).write_bytes(replace(plan_of, began=None).to_bytes())
    with pytest.raises(MarkError) as timeless:
        match_run(undated, settings)
    assert timeless.value.code == "mark.time"
    reader = mark_recipe(settings)
    plan = plan_for(recipe_for(settings), settings, reader).marks
    assert plan is not None
    with pytest.raises(EngineError):
        MarkWorker(reader.open_engine, replace(plan, spec=recipe_for(settings).spec))


def test_the_commands(
    marked_world: MarkedWorld, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in marked_world.flags().items():
        monkeypatch.setenv(f"REELSIGHT_{name.upper().replace('.', '__')}", str(value))
    runner, output = CliRunner(), str(tmp_path / "out")
    done = runner.invoke(app, ["scan-marks", str(manifest), "--out", output, "--json"])
    assert done.exit_code == 0, done.output
    record, found = map(json.loads, done.stdout.splitlines())
    assert (record["state"], found["verdicts"]["IDENTIFIED"]) == ("complete", 1)
    done = runner.invoke(app, ["mark", "match", output])
    assert done.exit_code == 0, done.output
    assert "IDENTIFIED  leak: anna" in done.stdout
    assert "clean" not in done.stdout
    both = ["backfill", "--manifest", str(manifest), "-o", output, "--engine", "fake", "--marks"]
    done = runner.invoke(app, [*both, "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    plan = RunStore(tmp_path / "out").latest().plan
    told = [plan.decided[name] for name in ("marks", "marks.policy", "marks.search")]
    assert (told, record["frames"] > 0) == (["beside", "count:12", False], True)
    assert plan.began is not None
    done = runner.invoke(app, ["mark", "match", output, "--tried-before", "7", "--json"])
    assert done.exit_code == 0, done.output
    (named,) = json.loads(done.stdout)["found"]
    assert (named["clip_id"], named["suspects"], named["tried_before"]) == ("leak", 2, 7)


def test_a_clip_that_dies_at_the_engine_of_its_tags_has_no_marks(marked_world: MarkedWorld) -> None:
    settings = marked_world.settings()
    reader = mark_recipe(settings)
    plan = plan_for(recipe_for(settings), settings, reader)
    assert plan.marks is not None
    loaded = load_clip(ClipRequest("leak", str(marked_world.leak)), plan, InProcess())
    row = loaded_row(loaded, None, marks=True)
    died = Failure("engine", "engine.not_finite", "it gave NaN", "None.")
    dead = row.set_column(
        row.column_names.index("failure"), "failure", pa.array([asdict(died)], FAILURE_TYPE)
    )
    with closing(MarkWorker(reader.open_engine, plan.marks)) as worker:
        assert worker(dead)["marks"].null_count == 1
        assert worker(row)["marks"].null_count == 0


def test_marks_that_cannot_be_decoded_leave_the_tags(marked_world: MarkedWorld) -> None:
    settings = marked_world.settings()
    plan = plan_for(recipe_for(settings), settings, mark_recipe(settings))
    assert plan.marks is not None
    greedy = replace(plan.marks.sampling, count=10**6)
    plan = replace(plan, marks=replace(plan.marks, sampling=greedy))
    request = ClipRequest("leak", str(marked_world.leak))
    loaded = load_clip(request, plan, InProcess())
    assert loaded.failure is None
    assert isinstance(loaded.frames, Frames)
    assert not isinstance(loaded.beside, Frames)
    assert loaded.beside is not None
    assert loaded.beside.code == "media.over_limit"


@pytest.mark.parametrize("marks", ["alone", "beside"])
def test_a_run_with_marks_is_replayed_with_them(
    marks: Marks, marked_world: MarkedWorld, tmp_path: Path
) -> None:
    out, late = tmp_path / "out", tmp_path / "late.mp4"
    rows = [{"clip_id": "clean", "uri": str(marked_world.clean)}]
    rows.append({"clip_id": "late", "uri": str(late)})
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    settings = marked_world.settings()
    record = backfill(manifest, out, settings, marks=marks)
    assert (record.state, record.failures) == ("complete", {"fetch.not_found": 1})
    assert match_run(out, settings).clips == 1
    shutil.copy(marked_world.leak, late)
    with pytest.raises(RunConflict, match=r"marks\.carrier"):
        replay(out, "fetch.not_found", settings.for_workers())
    with pytest.raises(RunConflict) as other:
        replay(out, "fetch.not_found", marked_world.settings(**{"marks.policy": "count:13"}))
    assert "marks.policy: was 'count:12', is 'count:13'" in other.value.message
    mended = replay(out, "fetch.not_found", settings)
    assert (mended.tagged, mended.dead) == (2, 0)
    run = RunStore(out).latest()
    assert verify(run).state == "complete"
    found = match_run(out, settings)
    assert (found.clips, found.verdicts) == (2, {"IDENTIFIED": 1, "NO_EVIDENCE": 1})


def test_a_run_with_marks_goes_on_where_it_was_and_refuses_another_kind(
    marked_world: MarkedWorld, manifest: Path, tmp_path: Path
) -> None:
    settings, out = marked_world.settings(), tmp_path / "out"
    first = backfill(manifest, out, settings, marks="alone")
    run = RunStore(out).latest()
    began = run.plan.began
    gone = next(iter((out / "runs" / run.run_id / "commits").iterdir()))
    gone.unlink()
    with pytest.raises(RunConflict) as other:
        backfill(manifest, out, settings)
    assert "marks: was 'alone', is None" in other.value.message
    again = backfill(manifest, out, settings, marks="alone")
    assert (again.run_id, again.state, again.tries) == (first.run_id, "complete", 2)
    assert RunStore(out).latest().plan.began == began
