"""The retag through real Ray Data: a backfill's rows with that bank, of clips that are gone."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs.retag
from jobs.backfill import backfill
from jobs.replay import replay
from jobs.retag import difference, retag
from reelsight.engine.fake import FakeTextTower
from reelsight.errors import BankError, RunConflict, StoreError
from reelsight.labels import BankDefinition, BankShelf, LabelDefinition, build_bank, save_bank
from reelsight.nouns.label_bank import LabelBank
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from reelsight.store.manifest import write_manifest
from reelsight.store.objects import LocalObjects
from reelsight.store.parts import write_parts
from reelsight.store.retag import decided_by, read_reports, stored_files
from reelsight.store.run import Run
from reelsight.store.runs import RunStore
from reelsight.store.verify import verify
from reelsight.tagging import Rescoring

pytestmark = pytest.mark.usefixtures("ray_cluster")

SHARDS = 4


def bank_named(name: str, thresholds: dict[str, float]) -> LabelBank:
    labels = tuple(LabelDefinition(name=n, threshold=t) for n, t in thresholds.items())
    definition = BankDefinition(name=name, labels=labels)
    return build_bank(
        definition, FakeTextTower(), model="fake", logit_scale=10.0, default_threshold=0.2
    )


# The fake backend's own bank has fake_00 to fake_15, all at 0.2.
THRESHOLDS = {"fake_00": 0.05, "fake_01": 0.3, "fake_02": 0.25, "fake_03": 0.2, "fake_04": 0.0}
THRESHOLDS |= {f"fake_{i:02d}": 0.17 for i in (5, 7, 8, 9, 10, 11, 12)}
THRESHOLDS |= {f"new_{i}": 0.1 for i in range(6)}


def settings_of(**flags: Any) -> Settings:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return Settings.load(None, {"engine.backend": "fake", "ray.shards": SHARDS} | named)


def rows_of(run: Run) -> list[dict[str, Any]]:
    tables = [pq.ParquetFile(path).read() for path in run.paths()]
    return sorted(pa.concat_tables(tables).to_pylist(), key=lambda row: str(row["clip_id"]))


@dataclass(frozen=True)
class Made:
    """A complete run by the fake bank, the new bank, and what a backfill by that one wrote."""

    root: Path
    manifest: Path
    bank: Path
    fresh: Run

    def copy(self, to: Path) -> Path:
        """The first run's output directory, for one test."""
        return Path(shutil.copytree(self.root / "out", to / "out"))


@pytest.fixture(scope="module")
def made(
    samples: list[SampleClip], ray_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> Made:
    del ray_cluster
    root = tmp_path_factory.mktemp("retag")
    clips = root / "clips"
    clips.mkdir()
    for sample in samples[:6]:
        shutil.copy(sample.path, clips)
    (clips / "text.mp4").write_text("this is not a video")
    uris = [str(path) for path in sorted(clips.iterdir())] + [str(clips / "later.mp4")]
    manifest = write_manifest(
        root / "m.parquet",
        [{"clip_id": Path(u).stem, "uri": u, "asset": i} for i, u in enumerate(uris)],
    )
    bank = save_bank(bank_named("mine", THRESHOLDS), root / "mine.bank.safetensors")
    before = backfill(manifest, root / "out", settings_of())
    assert before.failures == {"fetch.not_found": 1, "media.unrecognised_container": 1}
    fresh = backfill(manifest, root / "fresh", settings_of(bank=str(bank)))
    clips.rename(root / "gone")
    return Made(root, manifest, bank, RunStore(root / "fresh").open(fresh.run_id))


def test_rows_are_those_of_a_backfill_with_that_bank_though_the_clips_are_gone(
    made: Made, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = made.copy(tmp_path)
    settings = settings_of(bank=str(made.bank))
    done = retag(out, settings)
    assert rows_of(done.run) == rows_of(made.fresh)
    # Not a bit of an embedding, and no type of a column, is another.
    written, fresh = (pq.ParquetFile(run.paths()[0]).schema_arrow for run in (done.run, made.fresh))
    assert written.equals(fresh, check_metadata=True)
    assert verify(done.run).state == "complete"
    assert verify(done.source).state == "complete"
    decided = done.run.plan.decided
    assert decided["retag.run"] == done.source.run_id
    expected = decided_by(done.source, Rescoring(done.bank, decided["code_version"]).stamp)
    assert decided == expected
    assert done.run.record().tries == 1
    # The same command again has nothing to do; what it tells, in words and as JSON, is the same.
    jobs.retag.command(str(out), bank=str(made.bank), config=None, set_=["engine.backend=fake"])
    told = capfd.readouterr().out
    for words in (f"{done.source.run_id} -> {done.run.run_id}", "clips by label", "(fake_"):
        assert words in told
    assert "moved: shown by both, with score or coverage 0.05 or more apart" in told
    jobs.retag.command(str(out), bank=str(made.bank), clips=3, json_=True)
    document = json.loads(capfd.readouterr().out)
    assert (document["tries"], document["retag"]["after"]["bank"]) == (1, "mine")
    assert len(RunStore(out).ids()) == 2
    require_difference(document["retag"], rows_of(done.source), rows_of(done.run))
    again = retag(out, settings, new=True)
    assert again.run.run_id > done.run.run_id
    assert rows_of(again.run) == rows_of(done.run)


def require_difference(
    told: dict[str, Any], before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    """Count it again, from rows and with no code in common."""
    counts: list[Counter[str]] = [Counter() for _ in range(4)]
    gained, lost, moved, clips = counts
    for old, new in zip(before, after, strict=True):
        a, b = ({t["label"]: t for t in row["tags"]} for row in (old, new))
        for label in {*a, *b}:
            if label not in a:
                gained[label] += 1
            elif label not in b:
                lost[label] += 1
            elif any(abs(a[label][k] - b[label][k]) >= 0.05 for k in ("score", "coverage")):
                moved[label] += 1
            else:
                continue
            clips[old["clip_id"]] += 1
    counted = {item["label"]: item for item in told["labels"]}
    for name, wanted in (("gained", gained), ("lost", lost), ("moved", moved)):
        assert {k: v[name] for k, v in counted.items() if v[name]} == dict(wanted)
        assert wanted, f"nothing was {name}: this test would prove less than it says"
    assert {k for k, v in counted.items() if v["in_bank"]} == THRESHOLDS.keys()
    assert told["clips"] == sum(row["status"] == "tagged" for row in before)
    assert told["clips_changed"] == len(clips)
    most = [len(clip["gained"]) + len(clip["lost"]) for clip in told["most_changed"]]
    assert len(most) == 3
    assert most == sorted(most, reverse=True)


def test_it_goes_on_where_its_commits_end_and_refuses_another_bank(
    made: Made, tmp_path: Path
) -> None:
    out = made.copy(tmp_path)
    store = RunStore(out)
    source = store.latest()
    bank = BankShelf(out).find(str(made.bank))
    rescoring = Rescoring(bank, source.plan.decided["code_version"])
    # What a driver that was killed after its first commit leaves.
    run = store.resume_or_repeat(decided_by(source, rescoring.stamp), source)
    first = run.plan.inputs[0].shard
    attempt = run.begin()
    parts = [
        part
        for file in stored_files(source, [first])
        for part in write_parts(
            run.objects,
            run.run_id,
            SHARDS,
            attempt,
            rescoring(read_reports(run.objects, file.path, file.sha256)),
        )
    ]
    assert run.commit(first, [file for _, file in parts], attempt)
    assert verify(run).state == "pending"

    other = save_bank(bank_named("other", {"fake_00": 0.1}), tmp_path / "o.bank.safetensors")
    with pytest.raises(RunConflict, match="bank: was 'mine', is 'other'"):
        retag(out, settings_of(bank=str(other)))
    with pytest.raises(RunConflict, match=r"retag\.run: was '000001-.*', is None"):
        backfill(made.manifest, out, settings_of(bank=str(made.bank)))

    done = retag(out, settings_of(bank=str(made.bank)))
    assert done.run.run_id == run.run_id
    record = done.run.record()
    assert (record.state, record.tries, record.summary["shards"]["won"]) == (
        "complete",
        2,
        len(run.plan.inputs) - 1,
    )
    assert verify(done.run).state == "complete"
    assert rows_of(done.run) == rows_of(made.fresh)
    # A retag can be retagged, and says who embedded.
    back = retag(out, settings_of(bank=str(other)))
    assert back.source.run_id == run.run_id
    assert back.run.plan.decided["retag.embedded_by"] == source.plan.decided["code_version"]
    # It stands by itself: the run that it was made of may go.
    shutil.rmtree(out / "data" / source.run_id)
    shutil.rmtree(out / "runs" / source.run_id)
    assert verify(done.run).state == "complete"


def test_dead_letters_are_replayed_in_the_new_run_and_make_the_old_one_another(
    made: Made, samples: list[SampleClip], tmp_path: Path
) -> None:
    out = made.copy(tmp_path)
    settings = settings_of(bank=str(made.bank))
    done = retag(out, settings)
    clips = made.root / "clips"
    clips.mkdir()
    try:
        shutil.copy(samples[0].path, clips / "later.mp4")
        after = replay(out, "fetch.not_found", settings)
        assert (after.run_id, after.dead) == (done.run.run_id, 1)
        assert verify(done.run).state == "complete"
        assert difference(done, 1).apart == 1
        assert retag(out, settings).run.run_id == done.run.run_id
        replay(out, "fetch.not_found", settings_of(), run_id=done.source.run_id)
    finally:
        shutil.rmtree(clips)
    # What is retagged is not what it was.
    fourth = retag(out, settings)
    assert fourth.source.run_id == done.source.run_id
    assert fourth.run.run_id > done.run.run_id
    assert rows_of(fourth.run) == rows_of(done.run)


def foreign(tmp_path: Path) -> Path:
    class Foreign(FakeTextTower):
        model_hash = "f" * 64

    definition = BankDefinition(name="foreign", labels=(LabelDefinition(name="cat"),))
    bank = build_bank(definition, Foreign(), model="else", logit_scale=10.0, default_threshold=0.2)
    return save_bank(bank, tmp_path / "foreign.bank.safetensors")


def own(tmp_path: Path) -> Path:
    bank = bank_named("fake", {f"fake_{i:02d}": 0.2 for i in range(16)})
    return save_bank(bank, tmp_path / "own.bank.safetensors")


@pytest.mark.parametrize(
    ("bank", "code", "words"),
    [
        (foreign, "bank.other_model", "belongs to model else"),
        (own, "bank.unchanged", "was tagged by bank 'fake'"),
        (lambda _: "nobody", "bank.missing", "no bank 'nobody'"),
        (lambda _: None, "bank.missing", "no bank is named"),
    ],
)
def test_banks_that_cannot_be_are_refused_with_words(
    made: Made, tmp_path: Path, bank: Callable[[Path], Any], code: str, words: str
) -> None:
    named = bank(tmp_path)
    settings = settings_of() if named is None else settings_of(bank=str(named))
    with pytest.raises(BankError, match=words) as caught:
        retag(made.root / "out", settings)
    assert caught.value.code == code
    assert len(RunStore(made.root / "out").ids()) == 1


def test_a_damaged_source_is_not_passed_on(made: Made, tmp_path: Path) -> None:
    out = made.copy(tmp_path)
    (file,) = [p for p in RunStore(out).latest().paths() if p.endswith(".tagged.parquet")][:1]
    content = bytearray(Path(file).read_bytes())
    content[len(content) // 2] ^= 1
    Path(file).write_bytes(content)
    with pytest.raises(StoreError) as caught:
        retag(out, settings_of(bank=str(made.bank)))
    assert caught.value.code == "store.file_damaged"
    assert RunStore(out).newest().record().state == "failed"


def test_a_run_that_is_not_complete_is_not_retagged(made: Made, tmp_path: Path) -> None:
    out = made.copy(tmp_path)
    run = RunStore(out).latest()
    LocalObjects(out).remove(f"runs/{run.run_id}/_SUCCESS")
    with pytest.raises(RunConflict) as caught:
        retag(out, settings_of(bank=str(made.bank)), run_id=run.run_id)
    assert caught.value.code == "retag.unfinished"


def test_embeddings_are_the_old_ones_to_the_bit(made: Made) -> None:
    source = RunStore(made.root / "out").latest()
    rescoring = Rescoring(BankShelf(made.root).find(str(made.bank)), "v")
    stored = stored_files(source, [item.shard for item in source.plan.inputs])
    file = max((f for f in stored if f.status == "tagged"), key=lambda f: f.rows)
    assert file.rows > 1
    before = read_reports(source.objects, file.path, file.sha256)
    # A slice has offsets; rows of others must not shift into it.
    for rows in (before, before.slice(1)):
        after = rescoring(rows)
        assert after.schema.equals(rows.schema, check_metadata=True)
        for name in set(rows.column_names) - {"tags", "provenance"}:
            assert after[name].equals(rows[name])
        assert after["provenance"].to_pylist()[0]["code_version"] == "v"
    assert after["tags"].to_pylist() == rescoring(before)["tags"].to_pylist()[1:]
    with pytest.raises(StoreError, match="schema version none"):
        rescoring(before.replace_schema_metadata(None))
    assert np.isfinite(after["frames"].to_pylist()[0][0]["embedding"]).all()
