"""Jobs as users submit them: to a real cluster with a job server and token authentication."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from reelsight.cli.app import app
from reelsight.errors import ConfigError, ReelsightError
from reelsight.rayx.submission import JobServer
from reelsight.samples.clips import SampleClip
from reelsight.store.manifest import write_manifest
from reelsight.store.query import query
from tests.jobs.own_cluster import OwnCluster, own_cluster

ROOT = Path(__file__).parents[2]
HERE = "0.1.0+submitted"
# What the driver and a worker import, and from where.
WHERE = """
import ray, reelsight

if __name__ == "__main__":
    ray.init(logging_level="ERROR")
    far = ray.remote(lambda: __import__("reelsight").__version__)
    print("driver", reelsight.__version__, "worker", ray.get(far.remote()))
    raise SystemExit(4)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a job needs, told apart by its version, with what must not be uploaded."""
    copy = tmp_path_factory.mktemp("repository")
    for name in ("platform", "engines", "jobs", "deployments"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".rayignore", "cluster.yaml"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "platform/reelsight/__init__.py").write_text(f'__version__ = "{HERE}"\n')
    (copy / "jobs" / "where.py").write_text(WHERE)
    for name in (".git/blob", ".venv-export/lib", "data/clip.bin", "tests/x.py", "clip.mp4"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"\0" * 1_000_000)
    return copy


@pytest.fixture(scope="module")
def manifest(samples: list[SampleClip], tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [{"clip_id": s.clip_id, "uri": str(s.path)} for s in samples[:2]]
    return write_manifest(tmp_path_factory.mktemp("manifest") / "m.parquet", rows)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    """Any cluster: its nodes know nothing of reelsight."""
    with own_cluster(tmp_path_factory.mktemp("any"), pythonpath=None) as started:
        yield started


@pytest.fixture(scope="module")
def cluster_of_the_yaml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    """Its nodes are started with the PYTHONPATH of cluster.yaml, head and workers alike."""
    document = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    starts = document["head_start_ray_commands"] + document["worker_start_ray_commands"]
    paths = {m[1] for c in starts if (m := re.search(r"PYTHONPATH=(\S+)", c))}
    modes = [c for c in starts if "ray start" in c and "RAY_AUTH_MODE=token" in c]
    assert len(paths) == 1
    assert len(modes) == 2
    with own_cluster(tmp_path_factory.mktemp("yaml"), pythonpath=paths.pop()) as started:
        yield started


def environment(cluster: OwnCluster, **more: str) -> dict[str, str]:
    """Of a user who has the token in the place where `ray get-auth-token` puts it."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "REELSIGHT_"))}
    paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT)])
    return plain | {"HOME": str(cluster.home), "PYTHONPATH": paths} | more


def reelsight(cluster: OwnCluster, cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "reelsight.cli.app", *arguments]
    env = environment(cluster, RAY_API_SERVER_ADDRESS=cluster.address)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True)


def test_reelsight_submit_runs_this_directory_on_any_cluster(
    cluster: OwnCluster, repository: Path, manifest: Path, tmp_path: Path
) -> None:
    run = ["submit", "backfill", "--manifest", str(manifest), "--output", str(tmp_path / "out")]
    run += ["--engine", "fake", "--set", "ray.decode_tasks=1"]
    where = reelsight(cluster, repository, "submit", "--json", "--id", "w", "where")
    with where, reelsight(cluster, repository, *run) as tagged:
        out, err = where.communicate(timeout=180)
        # The log goes beside the answer, and the job's own exit code is the command's.
        assert f"driver {HERE} worker {HERE}" in err, out + err
        assert where.returncode == 4
        assert (json.loads(out)["job"], json.loads(out)["status"]) == ("w", "FAILED")
        out, err = tagged.communicate(timeout=180)
    assert tagged.returncode == 0, out + err
    assert "2 clips = 2 tagged + 0 dead" in out
    versions = query(tmp_path / "out", "select distinct provenance.code_version from reports")
    assert versions.rows == [(HERE,)]


def test_ray_job_submit_runs_on_a_cluster_of_cluster_yaml(
    cluster_of_the_yaml: OwnCluster, repository: Path, manifest: Path, tmp_path: Path
) -> None:
    """A module and a file, with nothing but a working directory."""
    env = environment(cluster_of_the_yaml, RAY_AUTH_MODE="token")
    submit = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", "."]
    submit += ["--address", cluster_of_the_yaml.address, "--", "python"]
    job = ["--manifest", str(manifest), "--engine", "fake", "--set", "ray.decode_tasks=1"]
    job += ["--output", str(tmp_path / "out")]

    def started(*python: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        command = [*submit, *python]
        return subprocess.Popen(
            command, cwd=repository, env=env, stdout=pipe, stderr=pipe, text=True
        )

    with started("-m", "jobs.where") as module, started("jobs/backfill.py", *job) as file:
        out, err = module.communicate(timeout=180)
        assert f"driver {HERE} worker {HERE}" in out, out + err
        out, err = file.communicate(timeout=180)
        assert file.returncode == 0, out + err
    versions = query(tmp_path / "out", "select distinct provenance.code_version from reports")
    assert versions.rows == [(HERE,)]


@pytest.fixture
def at_home(cluster: OwnCluster, monkeypatch: pytest.MonkeyPatch) -> OwnCluster:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(cluster.home))
    return cluster


def refusal(address: str, job: str | None = None) -> ReelsightError:
    with pytest.raises(ReelsightError) as caught:
        JobServer(address).state(job or "none")
    return caught.value


def test_refusals_say_what_to_do(
    at_home: OwnCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(at_home.address, "nobody").code == "submit.no_job"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nowhere = f"127.0.0.1:{taken.getsockname()[1]}"
    error = refusal(nowhere)
    assert (error.code, nowhere in error.message) == ("run.no_cluster", True)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    error = refusal(at_home.address)
    assert (error.code, "another token" in error.message) == ("submit.unauthorised", True)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot read the token"):
        JobServer(at_home.address)
    # Without a token of its own; Ray, once it has read one in a process, keeps it.
    stranger = environment(at_home, HOME=str(tmp_path))
    command = [sys.executable, "-m", "reelsight.cli.app", "job", "list", "--address"]
    asked = subprocess.run(
        [*command, at_home.address], env=stranger, capture_output=True, text=True, check=False
    )
    assert asked.returncode == 2
    assert "submit.unauthorised" in asked.stderr
    assert "wants a token" in asked.stderr


@pytest.mark.parametrize("name", ["tagging", "work", "__init__", "nobody"])
@pytest.mark.parametrize("options", [["--working-dir", str(ROOT)], ["--installed"]])
def test_what_is_no_job_is_refused(name: str, options: list[str]) -> None:
    told = CliRunner().invoke(app, ["submit", *options, name])
    assert told.exit_code != 0
    assert isinstance(told.exception, ConfigError)
    assert told.exception.code == "config.unknown_job"
    assert "backfill, replay, retag, scan_marks" in told.exception.message


def test_a_job_is_known_until_it_is_stopped(
    at_home: OwnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An address that is given goes before Ray's variables.
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    server = JobServer(at_home.address.removeprefix("http://"))
    assert server.submit(["sleep", "600"], {}, "sleeper") == "sleeper"
    with pytest.raises(ReelsightError) as caught:
        server.submit(["true"], {}, "sleeper")
    assert caught.value.code == "submit.job_exists"
    assert not server.state("sleeper").ended
    assert server.stop("sleeper")
    said: list[str] = []
    assert server.follow("sleeper", said.append).status == "STOPPED"
    assert {"sleeper"} <= {state.job for state in server.jobs()}


def test_what_a_job_does_not_need_is_not_uploaded(repository: Path) -> None:
    from ray._private.runtime_env.packaging import create_package

    package = repository.parent / "package.zip"
    create_package(str(repository), package, include_gitignore=True)
    import zipfile

    with zipfile.ZipFile(package) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        size = sum(info.file_size for info in archive.infolist())
    assert tops == {"platform", "engines", "jobs", "deployments", "cluster.yaml"}
    # Both shipped models, and little else.
    assert size < 35_000_000
