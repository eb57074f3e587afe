"""One step of the preparation, in a process of its own: `python -m ...step STEP CASE ...`.

Steps: `export` (the model directory, the frames and the calibration), `build-PRECISION` (the
derived ONNX file and the engine), `derive-PRECISION` (the file alone) and `compile-PRECISION`
(torch.compile's cache on disk). A step whose output is there does nothing.
"""

from __future__ import annotations

import ctypes
import io
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.engines.contender import contender_named
from benchmarks.engines.files import ModelFiles, read_json, spec_from, write_json
from benchmarks.engines.frames import drawn_frames
from benchmarks.engines.towers import ModelCase
from engines.backend import BuildRequest, BuildWatch
from engines.precision.calibration import Calibration, Method, calibrate
from engines.precision.derive import derive
from engines.precision.onnx_graph import sha256_of
from engines.precision.plan import plan_named
from reelsight.atomic import write_whole
from reelsight.nouns.model import Model

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
# Of two seeds: what is compared on was not calibrated on.
_CALIBRATED_SEED, _COMPARED_SEED = 1, 2


def main() -> None:
    """Run the step that the command line names."""
    # A step that outlived its parent would work on the same files as the next run's.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    step, case_text, root, device, *settings = sys.argv[1:]
    case, files = ModelCase.read(case_text), ModelFiles(Path(root))
    kind, _, precision = step.partition("-")
    match kind:
        case "export":
            export(case, files, *settings)
        case "derive":
            derived(files, precision)
        case "build":
            build(case, files, precision)
        case "compile":
            compile_ahead(case, files, precision, device)
        case _:
            raise SystemExit(f"no step {step!r}")


def export(
    case: ModelCase, files: ModelFiles, method: str, calibrated: str, compared: str, threads: str
) -> None:
    """The model directory, frames to compare on, and the calibration."""
    from engines.export.resolve import export_model

    if not (files.model / "model.json").is_file():
        export_model(case.name, files.model, random_weights_seed=case.seed)
    model = Model.load(files.model)
    size = model.geometry.size
    if not files.frames.is_file() or len(np.load(files.frames, mmap_mode="r")) != int(compared):
        whole = io.BytesIO()
        np.save(whole, drawn_frames(int(compared), size, _COMPARED_SEED).frames)
        write_whole(files.frames, whole.getbuffer())
    frames = drawn_frames(int(calibrated), size, _CALIBRATED_SEED)
    made = calibrate(
        model.image, frames, cast(Method, method), files.calibration, threads=int(threads)
    )
    made.save(files.root / "calibration.json")


def derived(files: ModelFiles, precision: str) -> Path:
    """The precision-carrying ONNX file."""
    path = files.derived(precision)
    model, plan = Model.load(files.model), plan_named(precision)
    ranges = plan.floats == "fp16" or plan.quantised is not None
    calibration = Calibration.load(files.root / "calibration.json") if ranges else None
    sources = {"model": model.hash, "calibration": calibration.sha256 if calibration else None}
    notes = path.with_suffix(".json")
    if not path.is_file() or not notes.is_file() or read_json(notes) != sources:
        derive(model.image, plan, path, calibration=calibration)
        write_json(notes, sources)
    return path


def build(case: ModelCase, files: ModelFiles, precision: str) -> None:
    """The engine of a precision, with a bucket a batch."""
    from engines.inductor.backend import InductorBackend

    artifact, source = files.artifact(precision), derived(files, precision)
    digest = sha256_of(source)
    if artifact.is_file():
        spec = spec_from(read_json(artifact)["spec"])
        if (spec.buckets, spec.onnx_sha256) == (case.batches, digest):
            return
    request = BuildRequest(
        model=Model.load(files.model),
        plan=plan_named(precision),
        source=source,
        source_sha256=digest,
        buckets=case.batches,
    )
    artifact.unlink(missing_ok=True)
    directory = files.engine(precision)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    built = InductorBackend().build(request, directory, BuildWatch())
    size = sum(path.stat().st_size for path in directory.iterdir())
    document: dict[str, Any] = {
        "spec": asdict(built.spec),
        "seconds": round(built.seconds, 2),
        "bytes": size,
        "details": dict(built.details),
    }
    write_json(artifact, document)


def compile_ahead(case: ModelCase, files: ModelFiles, precision: str, device: str) -> None:
    """Fill torch.compile's cache, and keep how long that took."""
    if files.compiled.is_file() and read_json(files.compiled)["batches"] == list(case.batches):
        return
    contender = contender_named(f"compile-{precision}", case, files.root, device, threads=2)
    contender.load()
    started = time.perf_counter()
    contender.place(case.batches)
    for batch in case.batches:
        contender.warm(batch)
    seconds = round(time.perf_counter() - started, 2)
    write_json(files.compiled, {"batches": case.batches, "seconds": seconds})


if __name__ == "__main__":
    main()
