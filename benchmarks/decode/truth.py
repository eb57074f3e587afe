"""Try every decode backend on every clip whose truth is known, and write what came of it.

    python -m benchmarks.decode.truth

Each trial is a process of its own, so that a crash or a hang of a library is an outcome like any
other. Writes results/decode-truth.json, which the table of docs/decode.md is made from. Beside our
backends stands decord as most programs use it: the frame of number floor(t x mean rate).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from benchmarks.decode.table import BARE
from reelsight.errors import MediaError
from reelsight.media.backends.decord_cpu import DecordBackend
from reelsight.media.backends.nvdec import NvdecBackend
from reelsight.media.backends.pyav import PyAVBackend
from reelsight.media.backends.seam import DecodeBackend
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.truth_clips import CASES, Case, make, problems

__all__ = ["main"]

RESULT = Path(__file__).parents[1] / "results" / "decode-truth.json"
SAMPLINGS = (Sampling(rate=4), Sampling("count", count=7))
# Long, because a loaded machine must not pass for a hanging decoder.
TIMEOUT_S = 600
BACKENDS: dict[str, Callable[[], DecodeBackend]] = {
    "pyav": PyAVBackend,
    "decord": DecordBackend,
    "nvdec": NvdecBackend,
}


def main() -> None:
    """Try all and write the document; with two arguments, print one outcome."""
    if len(sys.argv) == 3:
        print(json.dumps(_outcome(sys.argv[1], CASES[sys.argv[2]])))
        return
    names, absent = [], {}
    for name, backend in BACKENDS.items():
        why = backend().unusable()
        if why is None:
            names.append(name)
        else:
            absent[name] = why
    if "decord" in names:
        names.append(BARE)
    rows = []
    for case, content in CASES.items():
        outcomes = {name: _in_child(name, case) for name in names}
        rows.append({"case": case, "promise": content.promise, "outcomes": outcomes})
        print(case, outcomes, flush=True)
    versions = {name: _version(name) for name in ("av", "decord", "PyNvVideoCodec")}
    document = {
        "samplings": [str(sampling) for sampling in SAMPLINGS],
        "versions": {name: number for name, number in versions.items() if number},
        "backends": names,
        "not_run": absent,
        "cases": rows,
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _in_child(name: str, case: str) -> str:
    command = [sys.executable, "-m", "benchmarks.decode.truth", name, case]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode < 0:
        return f"crashes: signal {-done.returncode}"
    if done.returncode:
        return f"fails: {done.stderr.decode(errors='replace').strip().splitlines()[-1]}"
    return str(json.loads(done.stdout.splitlines()[-1]))


def _outcome(name: str, case: Case) -> str:
    found: list[str] = []
    for sampling in SAMPLINGS:
        try:
            frames = _frames(name, make(case), sampling, case)
        except MediaError as error:
            return f"refuses: {error.message.rpartition('this clip: ')[2]}"
        wrong = problems(frames, case)
        if name == BARE:
            # It makes no claim about where the clip ends or whether all of it is there.
            wrong = [problem for problem in wrong if problem.startswith(("shows", "colours"))]
        found += [_short(problem) for problem in wrong]
    return f"wrong: {', '.join(dict.fromkeys(found))}" if found else "right"


def _short(problem: str) -> str:
    for start, words in (("shows frames", "wrong frames"), ("stamps", "wrong times")):
        if problem.startswith(start):
            return words
    return problem


def _frames(name: str, data: bytes, sampling: Sampling, case: Case) -> Frames:
    if name == BARE:
        return _bare_decord(data, sampling, case)
    backend = BACKENDS[name]()
    return backend.decode("c", "c", data, sampling, Geometry(224), MediaLimits())[1]


def _bare_decord(data: bytes, sampling: Sampling, case: Case) -> Frames:
    """The usual few lines; its pictures are taken at their word as to when they are shown."""
    import decord

    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        file.write(data)
        file.flush()
        try:
            reader = decord.VideoReader(file.name, width=224, height=224, num_threads=1)
            count, fps = len(reader), reader.get_avg_fps()
            end_s = case.truth[-1][1] + case.last_ms / 1000
            if sampling.policy == "rate":
                times = np.arange(0, count / fps, 1 / sampling.rate)
            else:
                times = (np.arange(sampling.count) + 0.5) * count / fps / sampling.count
            numbers = np.unique(np.minimum((times * fps + 1e-3).astype(int), count - 1))
            pixels = reader.get_batch(numbers).asnumpy()
        except (decord.DECORDError, AssertionError, RuntimeError, IndexError) as error:
            line = next((x for x in str(error).splitlines() if x.strip()), type(error).__name__)
            reason = line.rpartition(".cc:")[2].partition(": ")[2] or line.rpartition("] ")[2]
            reason = reason.replace(f"[{file.name}] ", "")
            raise MediaError(re.sub(r" \(-?\d.*", "", reason).strip()) from error
    seconds = np.array([at for _, at in case.truth])
    at = np.unique(np.searchsorted(seconds, times + 0.00051, side="right") - 1)
    pts = seconds[at] if len(at) == len(numbers) else numbers / fps
    return Frames("c", pixels, pts, max(end_s, pts[-1]), str(sampling), len(times))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
