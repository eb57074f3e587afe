"""The backfill through real Ray Data, over real and broken files; the yardstick is without Ray."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engines.catalog import recipe_for
from jobs.backfill import backfill
from jobs.replay import replay
from reelsight.engine import EngineHost, EngineRecipe, FakeEngine
from reelsight.errors import EngineError, ManifestError, QueryError, RunConflict, RunError
from reelsight.nouns.report import Report
from reelsight.nouns.schema import reports_to_table
from reelsight.plan import plan_for
from reelsight.rayx.cluster import Widths
from reelsight.rayx.dataset import tag_dataset
from reelsight.runner import SequentialRunner
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from reelsight.steps import ClipRequest
from reelsight.store.manifest import Manifest, write_manifest
from reelsight.store.query import query
from reelsight.store.run import RunRecord
from reelsight.store.runs import RunStore
from reelsight.store.verify import verify

pytestmark = pytest.mark.usefixtures("ray_cluster")


def without_ray(manifest: Path, settings: Settings) -> list[Report]:
    recipe = recipe_for(settings)
    host = EngineHost(recipe.open_engine())
    runner = SequentialRunner(plan_for(recipe, settings), host)
    requests = [
        ClipRequest(row.pop("clip_id"), row.pop("uri"), row) for row in Manifest.open(manifest)
    ]
    reports = list(runner.run(requests))
    host.close()
    return reports


def stored_rows(output: Path, record: RunRecord) -> list[dict[str, Any]]:
    paths = RunStore(output).open(record.run_id).paths()
    tables = [pq.ParquetFile(path).read() for path in paths]
    return sorted(pa.concat_tables(tables).to_pylist(), key=lambda row: str(row["clip_id"]))


def rows_of(reports: list[Report], dim: int, manifest: Path) -> list[dict[str, Any]]:
    kind = Manifest.open(manifest).carried
    carried = None if kind is None else pa.array([r.carried for r in reports], kind)
    table = reports_to_table(reports, dim, carried)
    return sorted(table.to_pylist(), key=lambda row: str(row["clip_id"]))


def broken_files(directory: Path, good: Path) -> dict[str, Path]:
    """One file of each kind of badness."""
    content = good.read_bytes()
    directory.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {
        "text": b"this is not a video\n" * 50,
        "playlist": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
        "empty": b"",
        "no_moov": content[: len(content) // 2]
        if b"moov" in content[-len(content) // 2 :]
        else b"x",
        "garbled": content[:2000] + b"\xff" * (len(content) - 4000) + content[-2000:],
    }
    paths = {}
    for name, data in files.items():
        paths[name] = directory / f"{name}.mp4"
        paths[name].write_bytes(data)
    paths["missing"] = directory / "missing.mp4"
    paths["directory"] = directory
    paths["audio_only"] = directory / "audio.mp4"
    with av.open(str(paths["audio_only"]), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate = 44100
        frame.pts = 0
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return paths


EXPECTED_CODES = {
    "text": "media.unrecognised_container",
    "playlist": "media.unrecognised_container",
    "empty": "fetch.empty",
    "missing": "fetch.not_found",
    "directory": "fetch.not_a_file",
    "audio_only": "media.no_video",
}


def test_both_doors_give_equal_reports(
    samples: list[SampleClip], fake_settings: Settings, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.parquet"
    broken = broken_files(tmp_path / "broken", samples[0].path)
    rows = [
        {
            "clip_id": clip.clip_id,
            "uri": str(clip.path),
            "asset": i,
            "seen": datetime.datetime(2026, 1, 1 + i, tzinfo=datetime.UTC),
        }
        for i, clip in enumerate(samples)
    ]
    rows += [
        {"clip_id": name, "uri": str(path), "asset": None, "seen": None}
        for name, path in broken.items()
    ]
    rows.append({"clip_id": "no_uri", "uri": None, "asset": None, "seen": None})
    write_manifest(manifest, rows)

    record = backfill(manifest, tmp_path / "out", fake_settings)
    expected = without_ray(manifest, fake_settings)

    assert record.state == "complete"
    assert stored_rows(tmp_path / "out", record) == rows_of(expected, 32, manifest)
    assert record.rows == len(rows) == record.tagged + record.dead
    assert record.tagged == len(samples)
    assert sum(record.failures.values()) == record.dead
    assert record.frames == sum(len(report.pts) for report in expected)
    assert record.summary["clips"] == record.rows
    assert record.summary["limiting_stage"] in record.summary["busy"]
    assert verify(RunStore(tmp_path / "out").latest()).state == "complete"
    dead = dict(query(tmp_path / "out", "select clip_id, code from dead_letters").rows)
    assert {name: dead[name] for name in EXPECTED_CODES} == EXPECTED_CODES
    assert dead["no_uri"] == "fetch.no_uri"
    assert dead["garbled"].startswith("media.")
    assert dead["no_moov"].startswith("media.")
    told = query(tmp_path / "out", "select stage, message, hint, attempts from dead_letters").rows
    assert all(all(cell for cell in row) for row in told)
    assert query(tmp_path / "out", "select max(asset), min(seen) from clips").rows == [
        (len(samples) - 1, rows[0]["seen"])
    ]


def test_the_shipped_model_gives_equal_reports_through_both_doors(
    samples: list[SampleClip], tmp_path: Path
) -> None:
    manifest = samples[0].path.parent / "manifest.parquet"
    # Several clips a call, and concurrent calls: the doors batch differently.
    settings = Settings.load(None, {"ray.clips_per_block": 3, "media.sampling.rate": 2.0})
    record = backfill(manifest, tmp_path / "out", settings)
    expected = without_ray(manifest, settings)
    dim = recipe_for(settings).spec.dim
    assert stored_rows(tmp_path / "out", record) == rows_of(expected, dim, manifest)


def test_real_videos_are_tagged_or_dead_for_the_right_reason(
    videos_dir: Path, tmp_path: Path
) -> None:
    manifest = write_manifest(
        tmp_path / "m.parquet",
        [{"clip_id": p.name, "uri": str(p)} for p in sorted(videos_dir.iterdir())],
    )
    record = backfill(manifest, tmp_path / "out", Settings.load(None, {}))
    assert record.state == "complete"
    got = query(tmp_path / "out", "select clip_id, status, codec, pixel_format from clips").rows
    status = {clip_id: state for clip_id, state, _, _ in got}
    assert [clip_id for clip_id, state in status.items() if state == "dead"] == ["corrupted.mp4"]
    assert {codec for _, state, codec, _ in got if state == "tagged"} == {"h264", "hevc", "av1"}
    formats = {clip_id: pixel_format for clip_id, _, _, pixel_format in got}
    assert "10" in formats["short_h265_10bit.mp4"]
    upright = query(
        tmp_path / "out",
        "select width < height, rotation from clips where clip_id = 'rotated_90.mov'",
    )
    assert upright.rows == [(True, 90)]


def test_decode_and_engine_stay_two_operators(
    samples: list[SampleClip], fake_settings: Settings
) -> None:
    """Fused, a run on CPUs would have another shape than a run on GPUs."""
    recipe = recipe_for(fake_settings)
    manifest = Manifest.open(samples[0].path.parent / "manifest.parquet")
    plan = plan_for(recipe, fake_settings)
    dataset = tag_dataset(manifest, plan, recipe, fake_settings, Widths(2, 1)).materialize()
    stats = dataset.stats()
    assert "MapBatches(decode_clips)" in stats
    assert "MapBatches(EngineWorker)" in stats
    assert "decode_clips)->MapBatches(EngineWorker" not in stats
    assert dataset.count() == manifest.rows


def test_runs_of_one_directory_do_not_mix(
    samples: list[SampleClip], fake_settings: Settings, tmp_path: Path
) -> None:
    shutil.copy(samples[0].path, tmp_path / "a.mp4")
    rows = [{"clip_id": "a", "uri": str(tmp_path / "a.mp4")}]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    first = backfill(manifest, tmp_path / "out", fake_settings)
    # Complete, the same command has nothing to do.
    assert backfill(manifest, tmp_path / "out", fake_settings) == first
    second = backfill(manifest, tmp_path / "out", fake_settings, new=True)
    assert first.run_id < second.run_id
    store = RunStore(tmp_path / "out")
    one, two = (store.open(record.run_id).commits()[0].files for record in (first, second))
    assert one[0].sha256 == two[0].sha256
    assert query(tmp_path / "out", "select count(*) from clips").rows == [(1,)]


def one_clip(directory: Path, sample: SampleClip, /, **columns: Any) -> Path:
    """A manifest of one clip, under a name that does not say what it is."""
    path = directory / "asset=7" / "manifest"
    path.parent.mkdir()
    table = pa.table({"clip_id": ["a"], "uri": [str(sample.path)], **columns})
    pq.write_table(table, path)
    return path


def test_carried_values_that_python_cannot_hold_lose_no_clip(
    samples: list[SampleClip], fake_settings: Settings, tmp_path: Path
) -> None:
    odd = {
        "late": pa.array([2**62], pa.int64()).cast(pa.timestamp("us")),
        "bytes": pa.Array.from_buffers(
            pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")]
        ),
        "nothing": pa.nulls(1),
        "nested": pa.array([{"x": [1, 2], "y": {"z": None}}]),
        'quo"ted': ["x"],
        "status": ["theirs"],
        "clip": ["theirs"],
        "carried": ["theirs"],
    }
    manifest = one_clip(tmp_path, samples[0], **odd)
    record = backfill(manifest, tmp_path / "out", fake_settings)
    assert record.state == "complete"
    assert record.tagged == 1
    got = query(
        tmp_path / "out", """select manifest_status, "quo""ted", nested.x, late from clips"""
    )
    assert got.rows[0][:3] == ("theirs", "x", [1, 2])


def test_bytes_that_are_no_text_are_refused_or_dead(
    samples: list[SampleClip], fake_settings: Settings, tmp_path: Path
) -> None:
    offsets = pa.py_buffer(b"\0\0\0\0\2\0\0\0")
    bad = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff\xfe")])
    manifest = one_clip(tmp_path, samples[0], uri=bad)
    record = backfill(manifest, tmp_path / "out", fake_settings)
    assert record.failures == {"fetch.not_found": 1}
    pq.write_table(pa.table({"clip_id": bad, "uri": ["x"]}), tmp_path / "bad")
    with pytest.raises(ManifestError) as caught:
        backfill(tmp_path / "bad", tmp_path / "out", fake_settings)
    assert caught.value.code == "manifest.bad_clip_id"


def test_a_broken_engine_fails_the_run_and_blames_no_clip(
    samples: list[SampleClip],
    fake_settings: Settings,
    fake_recipe: EngineRecipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(FakeEngine):
        def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            del pixels
            raise RuntimeError("device lost")

    broken = replace(fake_recipe, open_engine=Broken)
    monkeypatch.setattr("engines.catalog.recipe_for", lambda _: broken)
    manifest = one_clip(tmp_path, samples[0])
    with pytest.raises(EngineError, match="device lost"):
        backfill(manifest, tmp_path / "out", fake_settings)
    store = RunStore(tmp_path / "out")
    record = store.newest().record()
    assert record.state == "failed"
    assert "device lost" in str(record.problem)
    assert record.committed == 0
    # Mended, the same command goes on with it.
    monkeypatch.setattr("engines.catalog.recipe_for", lambda _: fake_recipe)
    mended = backfill(manifest, tmp_path / "out", fake_settings)
    assert (mended.run_id, mended.state, mended.tries) == (record.run_id, "complete", 2)


def half_bad(directory: Path, sample: SampleClip) -> Path:
    """Twelve clips; every odd one is not there yet."""
    rows = [
        {"clip_id": f"{i}", "uri": str(sample.path if i % 2 == 0 else directory / f"{i}.mp4")}
        for i in range(12)
    ]
    return write_manifest(directory / "m.parquet", rows)


def test_dead_letters_are_replayed_into_the_same_run(
    samples: list[SampleClip], tmp_path: Path
) -> None:
    settings = Settings.load(None, {"engine.backend": "fake", "ray.shards": 4})
    out, manifest = tmp_path / "out", half_bad(tmp_path, samples[0])
    before = backfill(manifest, out, settings)
    assert (before.tagged, before.dead) == (6, 6)
    for i in (1, 3, 5):
        shutil.copy(samples[0].path, tmp_path / f"{i}.mp4")
    (tmp_path / "7.mp4").write_text("not a video")
    after = replay(out, "fetch.not_found", settings)
    assert (after.run_id, after.state) == (before.run_id, "complete")
    assert after.failures == {"fetch.not_found": 2, "media.unrecognised_container": 1}
    assert verify(RunStore(out).latest()).state == "complete"
    # What a run without the hindrance would have written.
    expected = rows_of(without_ray(manifest, settings), 32, manifest)
    assert stored_rows(out, after) == expected
    codes = query(out, "select clip_id, code from dead_letters order by 1").rows
    assert codes == [
        ("11", "fetch.not_found"),
        ("7", "media.unrecognised_container"),
        ("9", "fetch.not_found"),
    ]
    with pytest.raises(QueryError) as caught:
        replay(out, "fetch.no_uri", settings)
    assert caught.value.code == "run.no_such_dead"
    other = Settings.load(None, {"engine.backend": "fake", "media.sampling.rate": 2.0})
    with pytest.raises(RunConflict, match="sampler: was 'rate:1', is 'rate:2'"):
        replay(out, "fetch.not_found", other)


def test_a_run_with_too_many_dead_letters_stops_itself_and_goes_on(
    samples: list[SampleClip], tmp_path: Path
) -> None:
    limits = {"ray.max_dead_share": 0.4, "ray.max_dead_least": 3}
    flags = {"engine.backend": "fake", "ray.shards": 12, "ray.clips_per_block": 1}
    out, manifest = tmp_path / "out", half_bad(tmp_path, samples[0])
    with pytest.raises(RunError, match=r"\d x fetch.not_found") as caught:
        backfill(manifest, out, Settings.load(None, flags | limits))
    assert caught.value.code == "run.too_many_dead"
    record = RunStore(out).newest().record()
    assert record.state == "stopped"
    assert record.pending
    assert record.problem == caught.value.message
    again = backfill(manifest, out, Settings.load(None, flags))
    assert (again.run_id, again.state) == (record.run_id, "complete")
    assert (again.tagged, again.dead) == (6, 6)


def test_shards_whose_clips_are_all_bad_are_whole(tmp_path: Path) -> None:
    rows = [{"clip_id": f"../{i}'\n", "uri": f"/no/{i}"} for i in range(5)]
    manifest = write_manifest(tmp_path / "m.parquet", rows)
    settings = Settings.load(None, {"engine.backend": "fake", "ray.shards": 3})
    record = backfill(manifest, tmp_path / "out", settings)
    assert (record.state, record.dead) == ("complete", 5)
    assert verify(RunStore(tmp_path / "out").latest()).state == "complete"
