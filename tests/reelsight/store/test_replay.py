"""Replays take the place of dead letters of one reason, and of nothing else; without Ray."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from reelsight.errors import QueryError, StoreError
from reelsight.nouns.report import Report
from reelsight.store.commits import DataFile
from reelsight.store.parts import write_parts
from reelsight.store.query import query
from reelsight.store.replay import Replay
from reelsight.store.run import Run
from reelsight.store.verify import verify
from tests.made_runs import dead, manifest_of, started, table_of, tagged

NAMES = [f"{kind}-{i}" for kind in ("fine", "gone", "torn") for i in range(6)]


def first(name: str) -> Report:
    codes = {"gone": "fetch.not_found", "torn": "media.damaged"}
    code = codes.get(name.partition("-")[0])
    return dead(name, code) if code else tagged(name)


def wrote(run: Run, attempt: str, reports: list[Report]) -> dict[int, list[DataFile]]:
    files: dict[int, list[DataFile]] = {}
    rows = table_of(reports)
    for shard, file in write_parts(run.objects, run.run_id, run.plan.shards, attempt, rows):
        files.setdefault(shard, []).append(file)
    return files


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = started(tmp_path / "out", manifest_of(tmp_path / "m", NAMES), 3)
    for shard, files in wrote(run, run.begin(), [first(name) for name in NAMES]).items():
        assert run.commit(shard, files, "0001")
    run.finish()
    return run


def clips(run: Run, replay: Replay) -> list[str]:
    names: list[str] = []
    for item in replay.inputs:
        with pa.OSFile(run.objects.path(item.path)) as source:
            names += pa.ipc.open_file(source).get_batch(item.batch)["clip_id"].to_pylist()
    return names


def redo(run: Run, replay: Replay, outcome: Callable[[str], Report]) -> list[bool]:
    attempt = run.begin()
    files = wrote(run, attempt, [outcome(name) for name in clips(run, replay)])
    return [replay.commit(shard, made, attempt) for shard, made in files.items()]


def status(run: Run) -> dict[str, str]:
    return dict(query(Path(run.objects.path("")), "select clip_id, status from clips").rows)


def test_only_the_dead_of_the_reason_are_tried_again(run: Run) -> None:
    before = {f.path for c in run.commits() for f in c.files if f.status == "tagged"}
    replay = Replay(run, "fetch.not_found")
    assert sorted(clips(run, replay)) == [f"gone-{i}" for i in range(6)]
    assert all(redo(run, replay, tagged))
    replay.close()
    found = verify(run)
    assert (found.state, found.tagged, found.dead) == ("complete", 12, 6)
    assert found.garbage == ()
    assert run.record().failures == {"media.damaged": 6}
    # Reports of tagged clips stay where they were.
    assert before < {f.path for c in run.commits() for f in c.files}
    assert set(status(run)) == set(NAMES)


def test_of_two_replays_the_first_wins_and_the_other_clears_up(run: Run) -> None:
    one, two = Replay(run, "fetch.not_found"), Replay(run, "media.damaged")
    assert all(redo(run, one, tagged))
    assert not any(
        won
        for won, item in zip(redo(run, two, tagged), two.inputs, strict=True)
        if run.log.read(item.shard, 0).totals.failures.get("fetch.not_found")
    )
    for replay in (one, two):
        replay.close()
    found = verify(run)
    assert (found.state, found.garbage) == ("complete", ())
    # The one that lost finds what is left, and is not in the way of the next.
    again = Replay(run, "media.damaged")
    assert all(redo(run, again, first))
    assert run.record().failures["media.damaged"] == len(clips(run, again))
    assert verify(run).state == "complete"


def test_a_replay_that_dies_half_way_leaves_garbage_and_no_damage(run: Run) -> None:
    replay = Replay(run, "fetch.not_found")
    wrote(run, run.begin(), [tagged(name) for name in clips(run, replay)])
    found = verify(run)
    assert (found.state, found.dead) == ("complete", 12)
    assert len(found.garbage) == len(replay.inputs) + 1


def test_a_replay_cannot_change_which_clips_a_shard_has(run: Run) -> None:
    replay = Replay(run, "fetch.not_found")
    attempt = run.begin()
    files = wrote(run, attempt, [tagged(name) for name in clips(run, replay)[1:]])
    refused = []
    for shard, made in files.items():
        try:
            replay.commit(shard, made, attempt)
        except StoreError as error:
            refused.append(error.code)
    assert refused == ["store.replay_differs"]
    assert verify(run).state == "complete"


def test_reasons_that_are_not_there_are_refused_with_those_that_are(run: Run) -> None:
    with pytest.raises(QueryError, match=r"'fetch.not_found': 6") as caught:
        Replay(run, "fetch.empty").require()
    assert caught.value.code == "run.no_such_dead"
