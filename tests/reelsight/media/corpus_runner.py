"""Decodes a corpus in forked children, under limits, and says what became of every file.

A child takes many files, since a fork costs more than most of them. When it dies or stands still,
the file it was at is charged with that and a new child goes on behind it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO, Any, NoReturn

import numpy as np
import numpy.typing as npt

from reelsight.errors import MediaError
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from tests.reelsight.media.corpus import HostileFile, hostile_file
from tests.reelsight.media.corpus_bombs import CANARY

__all__ = ["GOOD", "Bounds", "Outcome", "run_files", "run_seeds", "shows_canary"]

GOOD = ("ok", "partial", "refused")
# Every policy and every accuracy has ways of its own through a broken file.
_SAMPLINGS = (
    Sampling(),
    Sampling(rate=5.0),
    Sampling(rate=5.0, accuracy="fast"),
    Sampling("count", count=6),
    Sampling("count", count=6, accuracy="reference"),
    Sampling("keyframe"),
    Sampling("keyframe+fill", rate=5.0),
    Sampling("scene"),
    Sampling("scene", accuracy="fast"),
)


@dataclass(frozen=True)
class Bounds:
    """What a child may use.

    Attributes:
        wall_s: Seconds that one file may take.
        memory_mib: Address space beyond what the child begins with.
        batch: Files a child.
    """

    wall_s: float = 20.0
    memory_mib: int = 1024
    batch: int = 100


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        seed: The case.
        kind: What had been done to it.
        name: What it called itself.
        status: `ok`, `partial` or `refused`; or `unclassified` (an error that is no MediaError),
            `leaked` (the canary was seen), `crashed` or `hung`.
        detail: The error's code, the exception's type and text, or the signal.
        seconds: How long it took.
        peak_mib: Highest resident memory, beyond what the child held before the file.
    """

    seed: int
    kind: str
    name: str
    status: str
    detail: str
    seconds: float
    peak_mib: float


def run_seeds(seeds: Sequence[int], canary: Path, bounds: Bounds) -> Iterator[Outcome]:
    """Make and decode cases, a batch at a time."""
    for start in range(0, len(seeds), bounds.batch):
        files = [hostile_file(seed, canary) for seed in seeds[start : start + bounds.batch]]
        yield from run_files(files, canary.parent, bounds)


def run_files(files: Sequence[HostileFile], folder: Path, bounds: Bounds) -> Iterator[Outcome]:
    """Decode files, in order, in as many children as it takes; `folder` is where they stand."""
    at = 0
    while at < len(files):
        for outcome in _one_child(files[at:], folder, bounds):
            at += 1
            yield outcome


def shows_canary(pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether any picture of uint8 [N, H, W, 3] has the canary's two halves."""
    wide = pixels.shape[2]
    halves = pixels[:, :, : wide // 3], pixels[:, :, wide - wide // 3 :]
    near = [
        np.abs(half.astype(int) - colour).max(axis=3).mean(axis=(1, 2)) < 60
        for half, colour in zip(halves, CANARY, strict=True)
    ]
    return bool((near[0] & near[1]).any())


def _one_child(files: Sequence[HostileFile], folder: Path, bounds: Bounds) -> Iterator[Outcome]:
    """The outcomes of one child, up to and with the file that ends it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(files, folder, bounds, write)
    os.close(write)
    done, began = 0, time.monotonic()
    try:
        with os.fdopen(read, "rb", buffering=0) as pipe:
            for line in _lines(pipe, bounds.wall_s):
                yield Outcome(**json.loads(line))
                done, began = done + 1, time.monotonic()
    finally:
        hung = time.monotonic() - began >= bounds.wall_s
        # It stays there, dead or not, until it is waited for.
        kill = os.killpg if os.getpgid(pid) == pid else os.kill
        kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    if done < len(files):
        file, spent = files[done], time.monotonic() - began
        word = "hung" if hung else "crashed"
        detail = "wall clock" if hung else f"wait status {status}"
        yield Outcome(file.seed, file.kind, file.name, word, detail, spent, 0.0)


def _lines(pipe: IO[bytes], wall_s: float) -> Iterator[bytes]:
    """Lines as they come, until the end or until none came for `wall_s`."""
    rest = b""
    while select.select([pipe], [], [], wall_s)[0]:
        chunk = pipe.read(65_536)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _child(files: Iterable[HostileFile], folder: Path, bounds: Bounds, out: int) -> NoReturn:
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        _limit(bounds)
        for file in files:
            os.write(out, json.dumps(_outcome(file)).encode() + b"\n")
    finally:
        # Nothing of the parent's may run here: no handlers at exit, no test report.
        os._exit(0)


def _limit(bounds: Bounds) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + (bounds.memory_mib << 20)
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(what, (most, most))
    # A crash is an outcome here: no traces of it in the test run's own output.
    faulthandler.disable()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)


def _outcome(file: HostileFile) -> dict[str, Any]:
    """Decode one file as its seed says and put what happened into words."""
    rng = Random(file.seed)
    limits = MediaLimits(damage=rng.choice(("refuse", "partial")))
    before, began, detail = _resident_mib(reset=True), time.monotonic(), ""
    try:
        geometry = Geometry(32, rng.choice(("squash", "shortest")))
        _, frames = decode("c", file.name, file.data, rng.choice(_SAMPLINGS), geometry, limits)
        status = "partial" if frames.partial else "ok"
        if shows_canary(frames.pixels):
            status = "leaked"
    except MediaError as error:
        status, detail = "refused", error.code
    except BaseException as error:
        # The boundary of the experiment: whatever else comes out is what it looks for.
        status, detail = "unclassified", f"{type(error).__name__}: {error}"[:300]
    return {
        "seed": file.seed,
        "kind": file.kind,
        "name": file.name,
        "status": status,
        "detail": detail,
        "seconds": time.monotonic() - began,
        "peak_mib": _resident_mib(reset=False) - before,
    }


def _resident_mib(reset: bool) -> float:
    """Resident memory now (after a reset of its peak), or its peak since, MiB."""
    if reset:
        Path("/proc/self/clear_refs").write_bytes(b"5")
    status = Path("/proc/self/status").read_text()
    key = "VmRSS:" if reset else "VmHWM:"
    return int(status.split(key)[1].split()[0]) / 1024
