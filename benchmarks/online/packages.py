"""Make what a door serves on this machine: a model with random weights, a bank, and a package.

`python -m benchmarks.online.packages CASE DIRECTORY THREADS` runs in a process of its own, several
at a time. It goes the way of `reelsight engine build`: the same build, and the same gate with its
own limits, on the fewest frames that it takes, drawn from a seed, and without activation ranges,
which FP16 does without where nothing overflows. A package that the gate stops is not served.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines.files import ModelFiles, read_json, write_json
from benchmarks.engines.prepare import child_environment
from benchmarks.engines.towers import ModelCase
from reelsight.errors import ReelsightError

__all__ = ["BUCKETS", "LABELS", "PRECISION", "Packaging", "start_packaging"]

PRECISION = "fp16"
BUCKETS = (1, 8, 32)
LABELS = Path(__file__).parents[1] / "pipeline" / "labels.yaml"
_JUDGED_SEED = 2


@dataclass(frozen=True, slots=True)
class Packaging:
    """A process that makes a model's package.

    Attributes:
        case: The model.
        files: Where what it makes is kept; an export that is there is used.
        process: That makes it.
        log: What it prints.
    """

    case: ModelCase
    files: ModelFiles
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def registry(self) -> Path:
        """Where the package is published."""
        return self.files.root / "registry"

    @property
    def bank(self) -> Path:
        """The label bank."""
        return self.files.root / "online.bank"

    def wait(self, seconds: float) -> dict[str, Any]:
        """What was made, once it is; the process is gone then.

        Raises:
            TimeoutError: It takes longer; it is ended.
            ReelsightError: It failed; the message is the last line that it printed.
        """
        try:
            code = self.process.wait(max(0.0, seconds))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise TimeoutError(f"{self.case.key} was not built in {seconds:.0f} s") from None
        if code:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ReelsightError(lines[-1] if lines else f"ended with {code}", code="bench.package")
        return read_json(_facts(self.files.root))


def start_packaging(case: ModelCase, work: Path, device: str, jobs: int, threads: int) -> Packaging:
    """Begin to make a model's package.

    Args:
        case: The model; its batches are the engine's buckets.
        work: Below which models are kept, as by the engines' benchmark.
        device: `cuda` or `cpu`.
        jobs: How many such processes there are at a time.
        threads: CPU threads of this one's reference engine.
    """
    files = ModelFiles(work / case.key)
    log = files.log("online-package")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.online.packages"]
    command += [case.dumps(), str(files.root), str(threads)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(work, device, jobs),
        )
    return Packaging(case, files, process, log)


def _facts(root: Path) -> Path:
    return root / "online-package.json"


def make(case: ModelCase, root: Path, threads: int) -> dict[str, Any]:
    """Export, embed the labels, build, gate, publish; what is there is kept.

    Raises:
        ReelsightError: A step failed, or the gate stopped the package.
    """
    from engines.catalog import recipe_for
    from engines.export.resolve import export_model
    from reelsight.labels import BankDefinition, build_bank_for, save_bank
    from reelsight.settings import Settings

    seconds: dict[str, float] = {}
    began = time.perf_counter()
    files = ModelFiles(root)
    if not (files.model / "model.json").is_file():
        export_model(case.name, files.model, random_weights_seed=case.seed)
    seconds["export"] = round(time.perf_counter() - began, 1)
    print("exported", seconds["export"], flush=True)
    settings = Settings.load(
        None,
        {
            "model": str(files.model),
            "engine.threads": threads,
            "engine.registry": str(root / "registry"),
        },
    )
    recipe = recipe_for(settings)
    bank = build_bank_for(recipe, BankDefinition.load(LABELS))
    save_bank(bank, root / "online.bank")
    began = time.perf_counter()
    told = _package(case, root, settings, bank)
    seconds["build and gate"] = round(time.perf_counter() - began, 1)
    return told | {"seconds": seconds, "model": recipe.spec.model}


def _package(case: ModelCase, root: Path, settings: Any, bank: Any) -> dict[str, Any]:
    from benchmarks.engines.frames import drawn_frames
    from engines.catalog import find_model, master_recipe, registry_of
    from engines.gate.ladder import BuildOrder, build_gated
    from engines.gate.report import GateReport
    from engines.gate.thresholds import MIN_FRAMES
    from engines.inductor.backend import InductorBackend
    from engines.package.directory import open_package
    from engines.package.signing import Trust

    model = find_model(settings.model, settings.cache_dir)
    backend = InductorBackend()
    # Programs for a CPU are what the tests build, and there FP16 is emulated.
    target = backend.probe().target
    precision = PRECISION if target is not None and target.sm else "fp32"
    order = BuildOrder(
        model=model,
        precision=precision,
        backend=backend,
        buckets=case.batches,
        frames=drawn_frames(MIN_FRAMES, model.geometry.size, _JUDGED_SEED),
        bank=bank,
        frames_words=f"{MIN_FRAMES} drawn frames, half of them degraded",
        fallback=False,
        threads=min(8, settings.engine.threads),
    )
    scratch = root / "online-package"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    reference = master_recipe(settings, model).open_engine()
    try:
        manifest = build_gated(order, reference, scratch)
    finally:
        reference.close()
    if manifest.refusal is not None:
        raise ReelsightError(manifest.refusal, code="bench.gate")
    registry_of(settings).push(open_package(scratch, Trust()))
    assert isinstance(manifest.gate, GateReport)
    spread = manifest.gate.centred_cosine
    return {
        "engine": f"{manifest.spec.backend} {manifest.spec.backend_version} {precision}",
        "precision": precision,
        "buckets": list(manifest.spec.buckets),
        "size": model.geometry.size,
        "build_s": manifest.build_s,
        "files_mb": round(sum(file.bytes for file in manifest.files) / 1e6),
        "gate": {
            "frames": manifest.gate.frames,
            "frames_words": manifest.gate.frames_words,
            "centred_cosine_mean": None if spread is None else round(spread.mean, 6),
            "decisions": manifest.gate.decisions,
        },
    }


def main() -> None:
    """Make the package that the command line names; the last line printed is why it failed."""
    case_text, directory, threads = sys.argv[1:]
    case, root = ModelCase.read(case_text), Path(directory)
    facts = _facts(root)
    if facts.is_file() and read_json(facts)["buckets"] == list(case.batches):
        return
    try:
        write_json(facts, make(case, root, int(threads)))
    except ReelsightError as error:
        raise SystemExit(f"{error.code}: {error.message}") from error


if __name__ == "__main__":
    main()
