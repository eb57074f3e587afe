"""The ladder: build at the precision that was asked for, gate it, and on failure go down a rung.

The rungs of a precision are `plan.ladder`'s. What was tried and why it was left is written into the
package that results. It knows backends by their protocol alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import reelsight
from engines.backend import Artifact, Backend, BuildRequest, BuildWatch
from engines.gate.judging import Limits, Report, Truth, judge, limits_for
from engines.gate.report import Attempt
from engines.gate.running import embed_frames
from engines.package.benchmark import measure_engine
from engines.package.directory import describe_files, seal
from engines.package.manifest import (
    CalibrationId,
    PackageManifest,
    image_tensors,
    preprocessing_id,
)
from engines.precision.calibration import Calibration
from engines.precision.derive import Derived, derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import PrecisionPlan, ladder, plan_named
from reelsight.engine.protocol import Engine
from reelsight.errors import EngineError, ModelError
from reelsight.nouns.model import Model

__all__ = ["BuildOrder", "attempt_of", "build_gated", "package_manifest"]


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What to build, and by what to judge it.

    Attributes:
        model: Whose image tower.
        precision: The plan to begin with.
        backend: What builds and runs it here.
        buckets: Batch sizes.
        frames: The gate's frames.
        bank: What must stay: the labels whose decisions do, or what is marked in the frames.
        frames_words: What the frames are, for people; stands in the report.
        calibration: Activation ranges; plans that need them fail to build without. Plans in FP16
            take them too, and keep what would overflow in FP32.
        options: The backend's own.
        thresholds: Limits by the name of a plan; those of `bank` when None.
        fallback: Whether to go down the ladder; without it the one package is made whatever the
            gate says, and carries its report.
        bench_s: Seconds of each measurement of the benchmark; None leaves it out.
        threads: CPU threads of the engine that is gated.
    """

    model: Model
    precision: str
    backend: Backend
    buckets: tuple[int, ...]
    frames: FrameSet
    bank: Truth
    frames_words: str = ""
    calibration: Calibration | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Callable[[str], Limits] | None = None
    fallback: bool = True
    bench_s: float | None = None
    threads: int = 1

    def limits(self, precision: str) -> Limits:
        """What an engine of a plan must show."""
        return (self.thresholds or limits_for(self.bank))(precision)

    @property
    def key(self) -> str:
        """What decides the result, and the machine: first 32 hex digits of a sha256."""
        state = self.backend.probe()
        document = {
            "model": self.model.hash,
            "precision": self.precision,
            "backend": [self.backend.name, state.version],
            "target": None if state.target is None else asdict(state.target),
            "buckets": self.buckets,
            "frames": [self.frames.sha256, self.frames_words],
            "bank": self.bank.hash,
            "calibration": None if self.calibration is None else self.calibration.sha256,
            "options": dict(self.options),
            "thresholds": [asdict(self.limits(p.name)) for p in ladder(self.precision)],
            "switches": [self.fallback, self.bench_s],
            "code": reelsight.__version__,
        }
        text = json.dumps(document, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def build_gated(
    order: BuildOrder,
    reference: Engine,
    directory: Path,
    *,
    watch: BuildWatch | None = None,
    signing_key: bytes | None = None,
) -> PackageManifest:
    """Fill an empty directory with the best package that passes the gate.

    Args:
        order: What to build.
        reference: The FP32 master of the same model, whose answers count as right.
        directory: Empty; made visible by the caller, see NodeCache.
        watch: Progress and cancel.
        signing_key: PEM private key; None leaves the package unsigned.

    Returns:
        The package's manifest; its `attempts` tell the way.

    Raises:
        EngineError: `gate.none_passed`; `engine.build_cancelled`.
        ConfigError: No such precision; or as `judge`, when the comparison would say nothing.
    """
    watch = watch or BuildWatch()
    rows = embed_frames(reference, order.frames.frames)
    plans = ladder(order.precision) if order.fallback else (plan_named(order.precision),)
    attempts: list[Attempt] = []
    for plan in plans:
        if plan.name not in order.backend.precisions:
            words = f"{order.backend.name} builds {', '.join(sorted(order.backend.precisions))}"
            attempts.append(Attempt(plan.name, "not_buildable", (words,)))
            continue
        rung = directory / "rung"
        rung.mkdir()
        try:
            manifest = _try(order, plan, reference, rows, rung, watch, attempts)
            if manifest is not None:
                for file in manifest.files:
                    (rung / "files" / file.name).rename(directory / file.name)
        finally:
            shutil.rmtree(rung)
        if manifest is not None:
            return seal(directory, manifest, signing_key).manifest
    words = "; ".join(f"{a.precision}: {a.outcome}: {', '.join(a.reasons)}" for a in attempts)
    raise EngineError(
        f"no precision passed on {order.backend.name}: {words}",
        code="gate.none_passed",
        hint="Look at the reasons; the FP32 master on onnxruntime-cpu needs no package.",
    )


def _try(
    order: BuildOrder,
    plan: PrecisionPlan,
    reference: Engine,
    rows: npt.NDArray[np.float32],
    rung: Path,
    watch: BuildWatch,
    attempts: list[Attempt],
) -> PackageManifest | None:
    """One rung: its manifest when it is the result, else None; adds to `attempts`."""
    files = rung / "files"
    files.mkdir()
    try:
        derived = derive(
            order.model.image,
            plan,
            rung / "derived.onnx",
            calibration=order.calibration if plan.floats == "fp16" or plan.quantised else None,
            runs_on=_runs_on(order.backend),
        )
        artifact = order.backend.build(_request(order, derived), files, watch)
        report, measured = _judge(order, artifact, reference, rows, files)
    except (EngineError, ModelError) as error:
        if error.code == "engine.build_cancelled" or error.code.startswith("gate."):
            raise
        attempts.append(Attempt(plan.name, "build_failed", (f"{error.code}: {error.message}",)))
        if order.fallback:
            return None
        raise
    attempt = attempt_of(plan.name, report)
    attempts.append(attempt)
    if attempt.outcome != "passed" and order.fallback:
        return None
    manifest = package_manifest(derived, artifact, files, order.calibration, order.options)
    return replace(
        manifest,
        gate=report,
        attempts=tuple(attempts),
        benchmark=None if isinstance(measured, str) else measured,
        details={**manifest.details, "benchmark_failed": measured}
        if isinstance(measured, str)
        else manifest.details,
    )


def _judge(
    order: BuildOrder,
    artifact: Artifact,
    reference: Engine,
    rows: npt.NDArray[np.float32],
    files: Path,
) -> tuple[Report, dict[str, Any] | str | None]:
    """The report, and the benchmark: what it measured, or why it failed."""
    engine = order.backend.open(artifact.spec, files, order.model, threads=order.threads)
    try:
        limits = order.limits(artifact.spec.precision)
        report = judge(
            reference,
            engine,
            order.frames,
            order.bank,
            limits,
            frames_words=order.frames_words,
            reference_rows=rows,
        )
        if order.bench_s is None or not report.stands_alone:
            return report, None
        try:
            measured = measure_engine(engine, seconds=order.bench_s, threads=order.threads)
        except EngineError as error:
            # The engine passed; how fast it is can be measured again.
            return report, f"{error.code}: {error.message}"
        return report, measured
    finally:
        engine.close()


def _request(order: BuildOrder, derived: Derived) -> BuildRequest:
    return BuildRequest(
        order.model, derived.plan, derived.path, derived.sha256, order.buckets, order.options
    )


def _runs_on(backend: Backend) -> Literal["cpu", "gpu"]:
    target = backend.probe().target
    return "cpu" if target is not None and target.sm is None else "gpu"


def attempt_of(precision: str, report: Report) -> Attempt:
    """A rung of the ladder that the gate judged."""
    if not report.passed:
        return Attempt(precision, "failed", report.reasons)
    if not report.stands_alone:
        return Attempt(precision, "failed", (report.rerun_words,))
    return Attempt(precision, "passed")


def package_manifest(
    derived: Derived,
    artifact: Artifact,
    files: Path,
    calibration: Calibration | None,
    options: Mapping[str, Any],
) -> PackageManifest:
    """The manifest of what was built, before anyone judged it.

    Args:
        derived: What it was made of.
        artifact: What the backend says of it.
        files: Directory of the built files; they are hashed.
        calibration: What the derived file was made with, if it used one.
        options: The backend's own, as they were asked for.

    Raises:
        PackageError: The files are not those that the backend names.
    """
    spec = artifact.spec
    used = derived.calibration_sha256 is not None and calibration is not None
    inputs, outputs = image_tensors(spec.geometry, spec.dim)
    layers = {
        "quantised": list(derived.quantised),
        "kept": {kept.node: kept.reason for kept in derived.kept},
    }
    return PackageManifest(
        spec=spec,
        target=artifact.target,
        plan=derived.plan,
        master_sha256=derived.master_sha256,
        calibration=CalibrationId(calibration.method, calibration.sha256)
        if used and calibration is not None
        else None,
        inputs=inputs,
        outputs=outputs,
        preprocessing=preprocessing_id(spec.geometry),
        files=describe_files(files, artifact.files),
        build_s=round(artifact.seconds, 3),
        options=dict(options),
        details={**artifact.details, "layers": layers},
        code_version=reelsight.__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
