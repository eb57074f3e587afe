"""`reelsight serve` in `split` as it is tuned for throughput: hops by gRPC would end at 4 MB."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from benchmarks.decode.cpu_time import descendants
from reelsight.samples.clips import SampleClip
from tests.deployments.doors import free_port
from tests.reelsight.media.process_tree import name_of

_FRAMES = 40  # 6 MB at 224 pixels.
_MAIN = "from reelsight.cli.app import main; main()"


@pytest.fixture
def served() -> Iterator[tuple[str, int]]:
    """A server in a process of its own, since Serve reads its switches when it is imported.

    Yields:
        Its base URL, and its process id.
    """
    port = free_port()
    settings = ["engine.backend=fake", "serve.topology=split", "serve.decoders=1"]
    command = [sys.executable, "-c", _MAIN, "serve", "--port", str(port)]
    for each in settings:
        command += ["--set", each]
    with subprocess.Popen(
        command,
        env=os.environ | {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "0"},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("listening on ")
            yield f"http://127.0.0.1:{port}", server.pid
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0


def replicas_below(pid: int) -> list[int]:
    """Process ids of Serve's replicas among a process's descendants."""
    return [one for one in descendants(pid) if name_of(one).startswith("ray::ServeRepli")]


def test_a_large_clip_and_many_frames_reach_their_replicas(
    served: tuple[str, int], samples: list[SampleClip]
) -> None:
    url, pid = served
    small = next(s for s in samples if s.path.suffix == ".mp4").path.read_bytes()
    # A box that every reader passes over makes the file as large as clips are.
    size = 6 << 20
    large = small + size.to_bytes(4, "big") + b"free" + bytes(size - 8)
    with httpx.Client(base_url=url, timeout=60) as client:
        answer = client.post("/v1/tags", files={"file": large})
        assert answer.status_code == 200, answer.text
        assert answer.json()["clip"]["size_bytes"] == len(large)
        many = client.post("/v1/tags", files={"file": small}, data={"sampling": f"count:{_FRAMES}"})
        assert many.status_code == 200, many.text
        assert len(many.json()["frames"]) == _FRAMES
    # Ray's own workers let everybody else on the machine go first.
    assert [os.getpriority(os.PRIO_PROCESS, one) for one in replicas_below(pid)] == [0, 0, 0]
