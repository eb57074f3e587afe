"""A Ray cluster with a job server of a test's own: loopback, own ports, token authentication."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class OwnCluster:
    """A head that runs.

    Attributes:
        address: Of its job server.
        token: What it asks for.
        home: A directory whose `.ray/auth_token` holds the token.
    """

    address: str
    token: str
    home: Path


@contextmanager
def own_cluster(home: Path, *, pythonpath: str | None) -> Iterator[OwnCluster]:
    """Start a head on loopback, and end what was started, by its process group.

    Args:
        home: An empty directory, the HOME of every process of the cluster.
        pythonpath: What its nodes are started with; None for nothing.
    """
    dashboard, *rest = _free_ports(7)
    token = secrets.token_hex(16)
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text(token)
    names = ["port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port"]
    names += ["runtime-env-agent-port", "metrics-export-port", "ray-client-server-port"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    command += [f"--{name}={port}" for name, port in zip(names, rest, strict=True)]
    command += ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--num-cpus=8"]
    command += [f"--dashboard-port={dashboard}"]
    command += ["--object-store-memory=200000000", "--disable-usage-stats"]
    bin_dir = str(Path(sys.executable).parent)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHONPATH"))}
    env |= {"HOME": str(home), "RAY_AUTH_MODE": "token", "PATH": f"{bin_dir}:{env['PATH']}"}
    if pythonpath is not None:
        env["PYTHONPATH"] = pythonpath
    # Sockets have short names: not below pytest's own directories.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as temp:
        log = Path(temp, "start.log")
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [*command, f"--temp-dir={temp}"],
                env=env,
                cwd=home,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as head,
        ):
            try:
                _wait(f"http://127.0.0.1:{dashboard}/api/version", token, head, log)
                yield OwnCluster(f"http://127.0.0.1:{dashboard}", token, home)
            finally:
                # Asked to end, a head drains its node for longer than a test has.
                with suppress(ProcessLookupError):
                    os.killpg(head.pid, signal.SIGKILL)
                _end_all_of(temp)


def _end_all_of(temp: str) -> None:
    """End what left the head's group: whoever has the cluster's own directory in its command."""
    while left := [p for p in _processes() if temp.encode() in p[1]]:
        for pid, _ in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes() -> Iterator[tuple[int, bytes]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes()
            except OSError:
                continue


def _free_ports(count: int) -> list[int]:
    """Ports that are free now; held together, so that none comes twice."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _wait(url: str, token: str, head: subprocess.Popen[bytes], log: Path) -> None:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and head.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    raise AssertionError(f"the head did not come up: {log.read_text()[-2000:]}")
