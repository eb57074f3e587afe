"""Every kind of damage to a run is found, by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from reelsight.store.commits import commit_of
from reelsight.store.parts import write_parts
from reelsight.store.run import Run
from reelsight.store.sealed import seal, unseal
from reelsight.store.verify import verify
from tests.made_runs import manifest_of, started, table_of, tagged, work

NAMES = [f"clip-{i}" for i in range(12)] + ["dead-1", "dead-2"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = started(tmp_path / "out", manifest_of(tmp_path / "m", NAMES), 3)
    work(run, run.objects, run.begin())
    run.finish()
    return run


def at(run: Run, part: str) -> Path:
    """The first file of a run with this in its name."""
    names = [*run.objects.names("data"), *run.objects.names("runs")]
    return Path(run.objects.path(next(name for name in names if part in name)))


def test_a_sound_run_adds_up(run: Run) -> None:
    found = verify(run)
    assert found.state == "complete"
    assert (found.rows, found.tagged, found.dead, found.pending) == (14, 12, 2, 0)
    assert found.manifest == "same"
    assert found.garbage == ()
    assert found.files == len(run.objects.names("data"))


def test_clips_that_wait_are_no_damage(run: Run) -> None:
    at(run, "_SUCCESS").unlink()
    at(run, "000001.0000.json").unlink()
    found = verify(run)
    (item,) = [i for i in run.plan.inputs if i.shard == 1]
    assert found.state == "pending"
    assert found.pending == item.expected.rows
    assert found.tagged + found.dead + found.pending == found.rows
    assert found.garbage
    assert all("/000001/" in name for name in found.garbage)


def test_a_shard_whose_commit_is_removed_is_made_anew(run: Run) -> None:
    at(run, "/000001/").unlink()
    assert verify(run).state == "damaged"
    at(run, "000001.0000.json").unlink()
    assert not run.complete
    again = started(Path(run.objects.path("")), Path(run.plan.manifest.path))
    assert again.run_id == run.run_id
    assert work(again, again.objects, again.begin()) == 1
    again.finish()
    assert again.complete
    assert verify(again).state == "complete"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def forge(run: Run, *names: str) -> None:
    """Commit other clips than the shard has, with all hashes right."""
    run.log.read(0, 0)
    at(run, "000000.0000.json").unlink()
    rows = table_of([tagged(name) for name in names])
    files = [f for _, f in write_parts(run.objects, run.run_id, 1, "0009", rows)]
    assert run.log.offer(commit_of(run.run_id, 0, 0, "0009", files))


def clips(run: Run, shard: int = 0) -> list[str]:
    files = run.log.read(shard, 0).files
    return [
        name
        for file in files
        for name in pq.ParquetFile(run.objects.path(file.path)).read(["clip_id"])[0].to_pylist()
    ]


def other_count(run: Run) -> None:
    path = at(run, "_SUCCESS")
    path.write_bytes(seal(unseal(path.read_bytes()) | {"dead": 1}))


DAMAGE: list[tuple[str, Callable[[Run], None]]] = [
    ("input_missing", lambda run: at(run, ".arrow").unlink()),
    ("input_damaged", lambda run: cut(at(run, ".arrow"))),
    ("file_missing", lambda run: at(run, ".dead.parquet").unlink()),
    ("file_damaged", lambda run: cut(at(run, ".tagged.parquet"))),
    ("commit_damaged", lambda run: cut(at(run, "000002.0000.json"))),
    ("commit_differs", lambda run: forge(run, *clips(run)[1:])),
    ("ids_lost", lambda run: forge(run, *clips(run)[1:], "other")),
    ("ids_foreign", lambda run: forge(run, *clips(run)[1:], "other")),
    ("ids_doubled", lambda run: forge(run, *clips(run)[1:], clips(run)[1])),
    ("success_damaged", lambda run: cut(at(run, "_SUCCESS"))),
    ("success_differs", other_count),
    ("success_differs", lambda run: at(run, "000001.0000.json").unlink()),
    (
        "commit_foreign",
        lambda run: at(run, "000001.0000.json").with_name("000077.0000.json").touch(),
    ),
]


@pytest.mark.parametrize(("code", "harm"), DAMAGE)
def test_damage_is_named(run: Run, code: str, harm: Callable[[Run], None]) -> None:
    harm(run)
    found = verify(run)
    assert found.state == "damaged"
    assert code in {f.code for f in found.findings}


def test_files_of_a_damaged_commit_are_not_called_garbage(run: Run) -> None:
    cut(at(run, "000002.0000.json"))
    assert verify(run).garbage == ()


def test_a_file_that_lies_about_its_rows_is_named(run: Run) -> None:
    commit = run.log.read(0, 0)
    path = at(run, "000000.0000.json")
    document = unseal(path.read_bytes())
    document["files"][0]["rows"] += 1
    path.write_bytes(seal(document))
    assert {f.code for f in verify(run).findings} == {"rows_differ"}
    assert json.loads(path.read_bytes())["rows"] == commit.rows


def test_what_dead_workers_left_is_listed_and_harmless(run: Run) -> None:
    left = at(run, ".tagged.parquet").with_name("0007-abc.tagged.parquet")
    left.write_bytes(b"half")
    found = verify(run)
    assert found.state == "complete"
    assert [Path(name).name for name in found.garbage] == [left.name]


def test_a_manifest_that_is_gone_or_changed_is_said(run: Run) -> None:
    path = Path(run.plan.manifest.path)
    manifest_of(path, ["another"])
    assert (verify(run).manifest, verify(run).state) == ("changed", "complete")
    path.unlink()
    assert (verify(run).manifest, verify(run).state) == ("gone", "complete")
