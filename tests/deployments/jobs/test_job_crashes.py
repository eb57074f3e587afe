"""Jobs outlive the processes that run them: SIGKILL anywhere loses none, and none ends twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("crash_each_line.py")


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """One a line of code that a job's life goes through; the last was not killed."""
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path_factory.mktemp("crashes"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_every_line_was_a_crash(rounds: list[dict[str, Any]]) -> None:
    assert len(rounds) > 100
    *killed, whole = rounds
    assert {one["first"] for one in killed} == {-signal.SIGKILL}
    assert whole["first"] == 0
    assert {one["second"] for one in rounds} == {0}


def test_what_was_accepted_has_one_result(rounds: list[dict[str, Any]]) -> None:
    moments = set()
    for one in rounds:
        notes = one["notes"]
        accepted = [note["accepted"] for note in notes if "accepted" in note]
        ids = [job["id"] for job in one["jobs"]]
        assert set(accepted) <= set(ids), one
        assert len(ids) <= 1, one
        for job in one["jobs"]:
            assert (job["state"], job["hook"]) == ("done", "delivered"), one
            assert one["events"][job["id"]].count("done") == 1
            assert 1 <= job["attempts"] <= 2
            took = [note["by"] for note in notes if note.get("finished")]
            result = json.loads(job["result"])
            # Whoever was told that its result was taken is whose result it is.
            assert took in ([], [result["by"]]), one
            posts = [note for note in notes if "posted" in note]
            assert posts, one
            assert {note["posted"] for note in posts} == {job["id"]}
            assert all(note["result"] == result for note in posts)
        ran = [note["by"] for note in notes if "ran" in note]
        by = [json.loads(job["result"])["by"] for job in one["jobs"]]
        moments.add((bool(accepted), tuple(ran), tuple(by)))
    # Every kind of crash was among them: before the row, before the answer, before the run, while
    # it ran, and after it.
    assert moments >= {
        (False, (), ()),
        (False, ("second",), ("second",)),
        (True, ("second",), ("second",)),
        (True, ("first", "second"), ("second",)),
        (True, ("first",), ("first",)),
    }


def test_no_upload_is_left(rounds: list[dict[str, Any]]) -> None:
    assert all(one["files"] == [] for one in rounds)
