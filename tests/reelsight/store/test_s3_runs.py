"""Runs on a server that speaks S3: what a disk gives, and what only a network does."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

pytest.importorskip("botocore", reason="no botocore: make .venv-s3/.done")

from botocore.exceptions import ClientError

from reelsight.cli.app import app
from reelsight.errors import StoreError
from reelsight.store.bucket import Bucket
from reelsight.store.commits import commit_of
from reelsight.store.location import S3Place, told
from reelsight.store.manifest import Manifest
from reelsight.store.parts import write_parts
from reelsight.store.query import query
from reelsight.store.replay import Replay
from reelsight.store.run import Run
from reelsight.store.run_plan import ManifestIdentity
from reelsight.store.runs import RunStore
from reelsight.store.s3 import S3Objects
from reelsight.store.verify import verify
from tests.made_runs import DECIDED, dead, manifest_of, stored_run, table_of, tagged, work
from tests.s3_server import LosingBucket, s3_server

ROOT = Path(__file__).parents[3]
NAMES = ["a", "b", "c", "dead-1", "dead-2"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3_server() as uri:
        yield uri


@pytest.fixture
def location(server: str, tmp_path: Path) -> str:
    return server.replace("PREFIX", f"some/{tmp_path.name}")


def driven(store: RunStore, manifest: Path, shards: int = 2) -> Run:
    run = store.resume_or_start(
        DECIDED, ManifestIdentity.of(manifest), lambda: Manifest.open(manifest), shards
    )
    if not run.complete:
        work(run, store.objects, run.begin())
        run.finish()
    return run


def drill(name: str, server: str, tmp_path: Path, rounds: int) -> dict[str, Any]:
    paths = [str(ROOT / "platform"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "tests.chaos.s3_drills", name, server, str(tmp_path)]
    done = subprocess.run(
        [*command, str(rounds)],
        capture_output=True,
        check=False,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("text", "bucket", "prefix", "endpoint"),
    [
        ("s3://b", "b", "", None),
        ("s3://b/", "b", "", None),
        ("s3://b/x/y/", "b", "x/y", None),
        ("s3://k:s%2F@b/x%20y?region=r", "b", "x y", None),
        ("s3://b/x?endpoint_override=h:1", "b", "x", "https://h:1"),
        ("s3://b/x?endpoint_override=h:1&scheme=http", "b", "x", "http://h:1"),
    ],
)
def test_places(text: str, bucket: str, prefix: str, endpoint: str | None) -> None:
    place = S3Place.parse(text)
    assert (place.bucket, place.prefix, place.endpoint) == (bucket, prefix, endpoint)


@pytest.mark.parametrize("text", ["s3://", "s3:///x", "s3://k@b/x", "s3://b/x?nonsense=1"])
def test_what_is_no_place_is_refused_in_words(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        RunStore(text)
    assert caught.value.code == "store.bad_location"


def test_no_secret_is_told(location: str) -> None:
    secret = "s3://KEY:SECRET@runs/x?region=r"
    place = S3Place.parse(secret)
    assert (place.access_key, place.secret_key) == ("KEY", "SECRET")
    shown = [repr(place), str(place), told(secret, "data"), RunStore(secret).name]
    assert not any("KEY" in text or "SECRET" in text for text in shown)
    assert told(secret, "data", "1") == "s3://runs/x/data/1"
    with pytest.raises(StoreError) as caught:
        RunStore(location).newest()
    assert "k:s" not in caught.value.message


def test_a_directory_is_told_as_before() -> None:
    assert told(Path("out"), "data") == told("out/", "data") == "out/data"
    assert told("./out", "data") == "out/data"


def test_a_run_on_s3_is_the_run_on_a_disk(location: str, tmp_path: Path) -> None:
    kind = pa.struct({"late": pa.timestamp("us"), "kind": pa.dictionary(pa.int32(), pa.string())})
    carried: dict[str, Any] = {"late": 2**50, "kind": "u"}
    reports = [tagged("a", **carried), tagged("b", **carried), dead("dead-1", **carried)]
    local = stored_run(tmp_path / "disk", *reports, kind=kind)
    manifest = tmp_path / "disk" / "manifest.parquet"
    store = RunStore(location)
    run = store.resume_or_start(
        DECIDED, ManifestIdentity.of(manifest), lambda: Manifest.open(manifest), 1
    )
    attempt = run.begin()
    made = write_parts(run.objects, run.run_id, 1, attempt, table_of(reports, kind))
    assert run.commit(0, [file for _, file in made], attempt)
    run.finish()

    assert (run.run_id, run.record()) == (local.run_id, local.record())
    assert verify(run) == verify(local)
    assert verify(run).state == "complete"
    for sql in (
        "SELECT * FROM clips ORDER BY clip_id",
        "SELECT * FROM tags ORDER BY clip_id",
        "SELECT * FROM frames ORDER BY clip_id, pts",
        "SELECT * FROM reports ORDER BY clip_id",
        "SELECT * FROM dead_letters",
        "SELECT typeof(COLUMNS(*)) FROM clips",
    ):
        assert query(location, sql) == query(tmp_path / "disk", sql)
    assert store.ids() == [run.run_id]
    assert store.latest().run_id == run.run_id
    assert run.paths()[0].startswith(f"s3://runs/some/{tmp_path.name}/data/{run.run_id}/")


def test_the_commands_take_an_address(location: str, tmp_path: Path) -> None:
    driven(RunStore(location), manifest_of(tmp_path / "m", NAMES))
    runner = CliRunner()
    assert "complete" in runner.invoke(app, ["runs", location, "--json"]).output
    assert runner.invoke(app, ["verify", location]).exit_code == 0
    sql = "SELECT count(*) AS n FROM clips"
    assert json.loads(runner.invoke(app, ["query", location, sql, "--json"]).output) == {"n": 5}


def test_a_run_goes_on_where_its_commits_end(location: str, tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "m", [f"clip-{i}" for i in range(20)])
    run = RunStore(location).resume_or_start(
        DECIDED, ManifestIdentity.of(manifest), lambda: Manifest.open(manifest), 4
    )
    first = run.pending()[0]
    rows = table_of([tagged(name) for name in clips_in(run, first.path, first.batch)])
    files = [f for _, f in write_parts(run.objects, run.run_id, 4, run.begin(), rows)]
    assert run.commit(first.shard, files, "0001")
    assert verify(run).state == "pending"
    again = driven(RunStore(location), manifest, 4)
    assert (again.run_id, again.record().tries) == (run.run_id, 2)
    assert verify(again).state == "complete"
    assert len(run.log.read(first.shard, 0).files) == 1
    assert driven(RunStore(location), manifest).record().tries == 2, "there was nothing to do"


def clips_in(run: Run, path: str, batch: int) -> list[str]:
    with run.objects.open(path) as source:
        ids: list[str] = pa.ipc.open_file(source).get_batch(batch)["clip_id"].to_pylist()
    return ids


def test_a_replay_takes_the_place_of_a_commit(location: str, tmp_path: Path) -> None:
    run = driven(RunStore(location), manifest_of(tmp_path / "m", NAMES))
    replay = Replay(run, "fetch.missing")
    attempt = run.begin()
    names = [n for item in replay.inputs for n in clips_in(run, item.path, item.batch)]
    assert sorted(names) == ["dead-1", "dead-2"]
    made: dict[int, list[Any]] = {}
    rows = table_of([tagged(name) for name in names])
    for shard, file in write_parts(run.objects, run.run_id, 2, attempt, rows):
        made.setdefault(shard, []).append(file)
    assert all(replay.commit(shard, files, attempt) for shard, files in made.items())
    replay.close()
    found = verify(run)
    assert (found.state, found.tagged, found.dead, found.garbage) == ("complete", 5, 0, ())


def test_damage_is_found(location: str, tmp_path: Path) -> None:
    run = driven(RunStore(location), manifest_of(tmp_path / "m", NAMES), 1)
    tagged_file, dead_file = sorted(run.commits()[0].files, key=lambda f: f.status, reverse=True)
    run.objects.remove(tagged_file.path)
    run.objects.put(dead_file.path, b"other")
    run.objects.put(run.plan.inputs[0].path, b"other")
    codes = {finding.code for finding in verify(run).findings}
    assert codes == {"file_missing", "file_damaged", "input_damaged"}


def test_a_commit_whose_answer_was_lost_has_won(location: str, tmp_path: Path) -> None:
    bucket = LosingBucket(S3Place.parse(location))
    objects = S3Objects(bucket, pause_s=0.0)
    run = driven(RunStore(location, objects), manifest_of(tmp_path / "m", ["a"]), 1)
    one, other = (commit_of(run.run_id, 7, 0, attempt, []) for attempt in ("0001", "0002"))
    bucket.armed = True
    assert run.log.offer(one)
    assert not bucket.armed, "the answer was lost"
    assert not run.log.offer(other)
    assert run.log.read(7, 0) == one


def test_only_the_first_creates(location: str) -> None:
    objects = RunStore(location).objects
    assert objects.create("x/y", b"1")
    assert not objects.create("x/y", b"2")
    assert objects.read("x/y") == b"1"
    assert objects.read("x") is None
    objects.put("x/y", b"3")
    objects.put("x/z/w", b"")
    assert objects.read("x/y") == b"3"
    assert objects.names("x") == ["x/y", "x/z/w"]
    assert objects.children("x") == ["y", "z"]
    assert objects.children("nothing") == []
    objects.remove("x/y")
    assert objects.read("x/y") is None
    with pytest.raises(OSError, match="x/y"):
        objects.open("x/y")


class Careless(Bucket):
    """A store that ignores the condition."""

    def put_absent(self, key: str, content: bytes) -> bool:
        self.put(key, content)
        return True


class Old(Bucket):
    """A store that does not know the condition."""

    def put_absent(self, key: str, content: bytes) -> bool:
        raise refusal("NotImplemented", 501)


class Busy(Bucket):
    """A store where somebody writes the same key, the first time."""

    asked = 0

    def put_absent(self, key: str, content: bytes) -> bool:
        self.asked += 1
        if self.asked == 1:
            raise refusal("ConditionalRequestConflict", 409)
        return super().put_absent(key, content)


def refusal(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


@pytest.mark.parametrize("kind", [Careless, Old])
def test_a_store_that_ignores_the_condition_is_refused_before_anything_is_written(
    kind: type[Bucket], location: str, tmp_path: Path
) -> None:
    objects = S3Objects(kind(S3Place.parse(location)), pause_s=0.0)
    with pytest.raises(StoreError) as caught:
        driven(RunStore(location, objects), manifest_of(tmp_path / "m", ["a"]))
    assert caught.value.code == "store.no_conditional_create"
    assert [*Bucket(S3Place.parse(location)).keys(f"some/{tmp_path.name}/")] == []


def test_a_conflict_is_tried_again(location: str) -> None:
    bucket = Busy(S3Place.parse(location))
    assert S3Objects(bucket, pause_s=0.0).create("x", b"1")
    assert bucket.asked == 4, "a conflict, the probe's two, and the object"


def test_a_refusal_that_does_not_pass_is_words(server: str) -> None:
    objects = RunStore(server.replace("@runs/", "@no-such-bucket/")).objects
    with pytest.raises(StoreError, match="NoSuchBucket") as caught:
        objects.put("x", b"")
    assert caught.value.code == "store.unwritable"
    with pytest.raises(StoreError) as caught:
        objects.read("x")
    assert caught.value.code == "store.unreadable"


def test_a_server_that_stalls_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        query = f"endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        place = S3Place.parse(f"s3://k:s@b/x?{query}")
        objects = S3Objects(Bucket(place, timeout_s=0.1), pause_s=0.0, tries=2)
        with pytest.raises(StoreError, match="timeout") as caught:
            objects.put("x", b"")
        assert caught.value.code == "store.unwritable"


def test_workers_take_the_objects_along(location: str) -> None:
    objects = RunStore(location).objects
    objects.put("x", b"1")
    assert pickle.loads(pickle.dumps(objects)).read("x") == b"1"


def test_two_drivers_may_race_on_s3(server: str, tmp_path: Path) -> None:
    # Every commit is offered by both at once; who wins is the server's choice.
    found = drill("race", server, tmp_path, 20)
    assert found["won_by_both"] + found["won_by_one"] == 20


def test_requests_may_fail_and_their_answers_be_lost(server: str, tmp_path: Path) -> None:
    found = drill("flaky", server, tmp_path, 5)
    assert found["faults"] > 20
    assert found["lost_creates"] > 0
    assert found["broken_drivers"] > 0
