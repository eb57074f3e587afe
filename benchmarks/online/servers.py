"""A server as a process tree: started, waited for, counted, ended.

The server's first process adopts what its descendants leave behind, so that daemons of Ray stay in
the tree. CPU time is read from the kernel's clocks, memory as proportional set size, in which pages
that processes share count once.
"""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.decode.cpu_time import cpu_s_of, descendants

__all__ = ["ROOT", "Server", "Tree", "behind_haproxy", "door", "free_port", "running"]

ROOT = Path(__file__).parents[2]
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Server:
    """What is started.

    Attributes:
        name: For people, and of its log.
        command: Program and arguments, without the port.
        tags: Path that tags an upload.
        health: Path of a route that does nothing.
        env: Added to the environment.
        port_flag: Argument before the port.
    """

    name: str
    command: tuple[str, ...]
    tags: str = "/tags"
    health: str = "/health"
    env: dict[str, str] = field(default_factory=dict)
    port_flag: str = "--port"


@dataclass(frozen=True, slots=True)
class Tree:
    """A running server.

    Attributes:
        server: Which.
        pid: Of its first process.
        port: On loopback.
        log: What it prints.
    """

    server: Server
    pid: int
    port: int
    log: Path

    @property
    def cpu_s(self) -> float:
        """User and system seconds so far, of the dead too."""
        return cpu_s_of(self.pid) + sum(map(cpu_s_of, set(descendants(self.pid))))

    @property
    def pss_mib(self) -> float:
        """Memory of all its processes, MiB."""
        return sum(map(_pss_mib, {self.pid, *descendants(self.pid)}))


def door(settings: dict[str, object], name: str = "reelsight") -> Server:
    """`reelsight serve` as it is shipped, with settings by their dotted names."""
    flags = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    return Server(
        name,
        (sys.executable, "-m", "reelsight.cli.app", "serve", *flags),
        tags="/v1/tags",
        health="/readyz",
    )


def behind_haproxy(server: Server, work: Path) -> Server:
    """The same behind Serve's HAProxy in place of its proxy in Python, with files of its own.

    HAProxy listens on two ports more, for its counters, on every address: not for machines that
    others reach.
    """
    (work / "haproxy").mkdir(parents=True, exist_ok=True)
    env = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(work / "haproxy" / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(work / "haproxy" / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(work / "haproxy"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(work / "haproxy" / "server-state"),
    }
    return replace(server, env=server.env | env)


def free_port() -> int:
    """A TCP port of loopback that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@contextmanager
def running(server: Server, logs: Path, timeout_s: float = 180.0) -> Iterator[Tree]:
    """Start a server, wait until its health route says 200; end its whole tree on the way out.

    Raises:
        SystemExit: It ended, or did not answer in time; names the log.
    """
    port = free_port()
    theirs = os.environ.get("PYTHONPATH", "")
    ours = [str(ROOT / "platform"), str(ROOT)]
    path = os.pathsep.join([*ours, *filter(None, theirs.split(os.pathsep))])
    env = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    env |= {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE", **server.env}
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{server.name.replace(' ', '-')}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*server.command, server.port_flag, str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=logs,
            preexec_fn=_adopt_orphans,  # noqa: PLW1509 - One system call, no lock.
        )
    tree = Tree(server, process.pid, port, log)
    try:
        _await_health(tree, process, timeout_s)
        yield tree
    finally:
        _end(process)


def _adopt_orphans() -> None:
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _await_health(tree: Tree, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{tree.server.name} ended with {process.returncode}: see {tree.log}")
        connection = http.client.HTTPConnection("127.0.0.1", tree.port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", tree.server.health)
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.2)
    raise SystemExit(f"{tree.server.name} did not answer in {timeout_s:.0f} s: see {tree.log}")


def _end(process: subprocess.Popen[bytes], patience_s: float = 45.0) -> None:
    below = {pid: _born(pid) for pid in descendants(process.pid)}
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    below |= {pid: _born(pid) for pid in descendants(process.pid)}
    if process.poll() is None:
        process.kill()
    process.wait()
    # What it left behind has other parents now; a process group or a name would reach too far.
    for pid, born in below.items():
        if born is not None and _born(pid) == born:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _born(pid: int) -> int | None:
    """The kernel's tick at which a process began, which its successor by number does not have."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    return None


def _pss_mib(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0
