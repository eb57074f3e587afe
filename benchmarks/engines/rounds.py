"""Measure the contenders of one model: a process each, all alive, asked one at a time.

Memory comes first, when each process holds its largest batch alone; then, round after round, every
contender in turn, so that a device that grows hot or a neighbour hits them all alike. What is made
of the numbers is `summary`'s business.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.engines.contender import REFERENCE
from benchmarks.engines.files import ModelFiles, read_json
from benchmarks.engines.machine import memory_used_mib
from benchmarks.engines.summary import agreement
from benchmarks.engines.towers import ModelCase

__all__ = ["Protocol", "measure_model"]

# Longer than loading and compiling the largest tower takes; a device that hangs is told apart.
_PATIENCE_S = 500.0
_EMBED_BATCH = 64


@dataclass(frozen=True, slots=True)
class Protocol:
    """How the rounds go.

    Attributes:
        device: `cuda` or `cpu`.
        rounds: How often every contender is measured.
        seconds: How long a throughput is taken at least.
        latency_runs: Single frames a round.
        threads: CPU threads of an engine.
        profile: Whether our engines are profiled at the end.
    """

    device: str
    rounds: int
    seconds: float
    latency_runs: int
    threads: int
    profile: bool


class _Lost(Exception):
    """A contender that answers no more, or with an error; says why."""


class _Process:
    """The parent's end of a worker."""

    def __init__(
        self, name: str, case: ModelCase, files: ModelFiles, how: Protocol, env: dict[str, str]
    ) -> None:
        self.name = name
        self.found: dict[str, Any] = {"rounds": []}
        log = files.log(f"worker-{name}")
        log.parent.mkdir(parents=True, exist_ok=True)
        module = [sys.executable, "-m", "benchmarks.engines.worker"]
        settings = [name, case.dumps(), str(files.root), how.device, str(how.threads)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*module, *settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=env,
            )
        self._log = log

    def ask(self, command: str, **arguments: Any) -> Any:
        """One command and its answer.

        Raises:
            _Lost: The command failed, or the process ended or hung.
        """
        asked, replies = self._process.stdin, self._process.stdout
        assert asked is not None
        assert replies is not None
        try:
            asked.write(json.dumps([command, arguments]).encode() + b"\n")
            asked.flush()
        except BrokenPipeError:
            raise _Lost(f"its process ended, see {self._log}") from None
        if not select.select([replies], [], [], _PATIENCE_S)[0]:
            self._process.kill()
            raise _Lost(f"{command} took more than {_PATIENCE_S:.0f} s")
        line = replies.readline()
        if not line:
            raise _Lost(f"its process ended at {command}, see {self._log}")
        reply = json.loads(line)
        if "error" in reply:
            raise _Lost(f"{command}: {reply['error']}")
        return reply["answer"]

    def end(self) -> None:
        """Let the process end, or end it."""
        with contextlib.suppress(OSError):
            if self._process.poll() is None and self._process.stdin is not None:
                self._process.stdin.write(b'["quit", {}]\n')
                self._process.stdin.flush()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class _Field:
    """The contenders that are still in the race."""

    def __init__(self, processes: list[_Process]) -> None:
        self.running = processes

    def each(self, step: Callable[[_Process], None], *, at_once: bool = False) -> None:
        """Do a step with every contender; who fails it is out, with the reason."""
        with ThreadPoolExecutor(max(1, len(self.running)) if at_once else 1) as pool:
            done = list(pool.map(lambda process: self._tried(step, process), self.running))
        for process in [p for p, fine in zip(self.running, done, strict=True) if not fine]:
            self.running.remove(process)
            process.end()

    @staticmethod
    def _tried(step: Callable[[_Process], None], process: _Process) -> bool:
        try:
            step(process)
        except _Lost as error:
            process.found = {"failed": str(error)}
            print(f"  {process.name}: {error}", flush=True)
            return False
        return True


def measure_model(
    case: ModelCase,
    contenders: Iterable[str],
    files: ModelFiles,
    how: Protocol,
    env: dict[str, str],
) -> dict[str, dict[str, Any]]:
    """Everything that is measured of one model.

    Args:
        case: The model.
        contenders: Names, in the order of each round.
        files: What was prepared.
        how: The protocol.
        env: Of the processes.

    Returns:
        By contender: `rounds` (a list of raw numbers), `memory`, `ready_s` (to go to the device and
        run the largest batch), `agreement`, `profile`, `build_s`; or `failed` with the reason
        alone. JSON values.
    """
    processes = [_Process(name, case, files, how, env) for name in contenders]
    field = _Field(list(processes))
    size = int(np.load(files.frames, mmap_mode="r").shape[1])
    try:
        field.each(lambda p: p.ask("load"), at_once=True)
        # One at a time: cuDNN chooses by timing, and memory is told apart by its increase.
        field.each(lambda p: _place(p, case, how.device))
        field.each(lambda p: _embed(p, case, files))
        for number in range(how.rounds):
            print(f"  round {number + 1} of {how.rounds}", flush=True)
            field.each(lambda p: _measure(p, case, size, how))
        if how.profile:
            field.each(lambda p: _profile(p, case))
    finally:
        for process in processes:
            process.end()
    found = {process.name: process.found for process in processes}
    for name, numbers in found.items():
        if "failed" not in numbers:
            numbers["build_s"] = _build_seconds(name, files)
    _compare(found, case, files)
    return found


def _place(process: _Process, case: ModelCase, device: str) -> None:
    """Warm every batch; memory of the whole process at the largest, and at all of them."""
    used = memory_used_mib if device == "cuda" else lambda: None
    before = used()
    started = time.perf_counter()
    process.ask("place", batches=case.batches[-1:])
    process.ask("warm", batch=case.batches[-1])
    ready = time.perf_counter() - started
    reserved, largest = process.ask("reserved_mib"), used()
    process.ask("place", batches=case.batches)
    for batch in case.batches:
        process.ask("warm", batch=batch)
    every = used()
    process.found["ready_s"] = round(ready, 2)
    process.found["memory"] = {
        "batch": case.batches[-1],
        "mib": _increase(before, largest),
        "torch_reserved_mib": reserved,
        "every_batch_mib": _increase(before, every),
    }


def _increase(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _embed(process: _Process, case: ModelCase, files: ModelFiles) -> None:
    batch = max(b for b in case.batches if b <= max(_EMBED_BATCH, case.batches[0]))
    rows = files.rows(process.name)
    process.ask("embed", frames=str(files.frames), rows=str(rows), batch=batch)


def _measure(process: _Process, case: ModelCase, size: int, how: Protocol) -> None:
    """One contender's part of a round."""
    latency = (
        process.ask("latency", size=size, runs=how.latency_runs) if 1 in case.batches else None
    )
    rates: dict[str, float] = {}
    for batch in case.batches:
        counted = process.ask("throughput", batch=batch, seconds=how.seconds)
        rates[str(batch)] = round(batch * counted["batches"] / counted["seconds"], 2)
    rounds = process.found["rounds"]
    # The batch of the first round: a close second must not change what is measured.
    best = rounds[0]["best_batch"] if rounds else max(case.batches, key=lambda b: rates[str(b)])
    streamed = process.ask("pipelined", batch=best, seconds=how.seconds)
    pipelined = None if streamed is None else best * streamed["batches"] / streamed["seconds"]
    rounds.append(
        {
            "latency": latency,
            "images_per_s": rates,
            "best_batch": best,
            "pipelined_images_per_s": None if pipelined is None else round(pipelined, 2),
        }
    )


def _profile(process: _Process, case: ModelCase) -> None:
    try:
        process.found["profile"] = process.ask("profile", batch=case.batches[-1])
    except _Lost as error:
        # The rounds stay: they were taken before.
        process.found["profile"] = {"failed": str(error)}


def _build_seconds(name: str, files: ModelFiles) -> float | None:
    kind, _, precision = name.partition("-")
    made = {"engine": files.artifact(precision), "compile": files.compiled}.get(kind)
    return float(read_json(made)["seconds"]) if made is not None and made.is_file() else None


def _compare(found: dict[str, dict[str, Any]], case: ModelCase, files: ModelFiles) -> None:
    """Embeddings of every contender beside the reference's."""
    if "failed" in found.get(REFERENCE, {"failed": ""}):
        return
    reference = np.load(files.rows(REFERENCE))
    for name, numbers in found.items():
        # Its weights are its own.
        if "failed" not in numbers and not name.startswith("transformers"):
            numbers["agreement"] = agreement(reference, np.load(files.rows(name)))
