"""Make every file that the rounds need, in parallel processes; what is there is not made again.

Exports come first, builds as soon as their model is exported, and torch.compile's cache meanwhile.
A step that fails leaves its reason and stops nobody else's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.engines.files import ModelFiles
from benchmarks.engines.towers import ModelCase

__all__ = ["Preparation", "child_environment", "prepare"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How the files are made.

    Attributes:
        device: `cuda` or `cpu`.
        contenders: Names of those that will be measured.
        method: Of the calibration.
        calibrated: Frames of the calibration.
        compared: Frames that embeddings are compared on.
        jobs: Processes at a time.
    """

    device: str
    contenders: tuple[str, ...]
    method: str
    calibrated: int
    compared: int
    jobs: int

    @property
    def steps(self) -> list[str]:
        """What follows an export, the longest first."""
        wanted = [name.partition("-") for name in self.contenders]
        builds = [f"build-{p}" for kind, _, p in wanted if kind == "engine"]
        # An engine's build derives the file that ONNX Runtime takes too.
        files = [p for kind, _, p in wanted if kind == "ort" and f"build-{p}" not in builds]
        return [*builds, *(f"derive-{p}" for p in files)]

    @property
    def compiled(self) -> list[str]:
        """What needs no export."""
        return [name for name in self.contenders if name.startswith("compile-")]


def child_environment(work: Path, device: str, jobs: int) -> dict[str, str]:
    """The environment of every process of the benchmark: our paths first, one compiler cache.

    Each of the jobs gets its share of the cores: compilers left alone start as many threads as
    there are cores, all of them, and then take longer than one after the other.
    """
    theirs = os.environ.get("PYTHONPATH", "")
    path = [str(ROOT / "platform"), str(ROOT), *filter(None, theirs.split(os.pathsep))]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    share = max(1, len(os.sched_getaffinity(0)) // jobs)
    cache = {
        "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor-cache"),
        "TORCHINDUCTOR_COMPILE_THREADS": str(share),
    }
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(path)} | cache | hidden


def prepare(cases: Mapping[ModelCase, ModelFiles], how: Preparation, env: dict[str, str]) -> None:
    """Make what is missing for every model; failures are told by `ModelFiles.why_missing`."""
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, len(cases)))
    settings = [how.method, str(how.calibrated), str(how.compared), str(threads)]
    with ThreadPoolExecutor(how.jobs) as pool:
        exports: dict[ModelCase, Future[bool]] = {
            case: pool.submit(_run, "export", case, files, how.device, settings, env)
            for case, files in cases.items()
        }
        for case, files in cases.items():
            for step in how.compiled:
                pool.submit(_run, step, case, files, how.device, [], env)
        for case, exported in exports.items():
            if exported.result():
                for step in how.steps:
                    pool.submit(_run, step, case, cases[case], how.device, [], env)


def _run(
    step: str, case: ModelCase, files: ModelFiles, device: str, more: list[str], env: dict[str, str]
) -> bool:
    """Run a step to its end; its failure is the last line that it printed."""
    log, failure = files.log(step), files.failure(step)
    for path in (log, failure):
        path.parent.mkdir(parents=True, exist_ok=True)
    failure.unlink(missing_ok=True)
    arguments = [step, case.dumps(), str(files.root), device, *more]
    started = time.perf_counter()
    with log.open("wb") as output:
        command = [sys.executable, "-m", "benchmarks.engines.step", *arguments]
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=env, check=False
        ).returncode
    if code:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        failure.write_text(lines[-1] if lines else f"{step} ended with {code}", encoding="utf-8")
    took = time.perf_counter() - started
    said = f"failed, see {log}" if code else "done"
    print(f"  {case.key:12} {step:14} {took:6.1f} s  {said}", flush=True)
    return code == 0
