"""Packages whose building and judging happen on different machines.

What a backend builds for a GPU that is not here cannot be run here: it leaves without a gate report
and is judged where it runs. A package of this machine is judged anew in the same way, when frames
or banks changed.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

from engines.backend import Backend, BuildRequest, BuildWatch
from engines.gate.judging import Limits, Truth, judge, limits_for
from engines.gate.ladder import attempt_of, package_manifest
from engines.package.directory import EnginePackage, seal
from engines.package.fetch import open_verified
from engines.package.manifest import PackageManifest
from engines.precision.calibration import Calibration
from engines.precision.derive import derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import plan_named
from reelsight.engine.protocol import Engine
from reelsight.errors import ConfigError, EngineError, PackageError
from reelsight.nouns.model import Model

__all__ = ["build_for", "judge_package", "require_cross_builder", "sm_of"]

_SM = re.compile(r"(?:sm_?)?([1-9][0-9]?)\.?([0-9])")
# TensorRT-RTX compiles for a GPU's architecture; the others measure kernels on the GPU itself or
# write files that are locked to it.
_CROSS_BUILDERS = frozenset({"tensorrt-rtx"})


def build_for(
    backend: Backend,
    sm: str,
    *,
    model: Model,
    precision: str,
    buckets: tuple[int, ...],
    calibration: Calibration | None,
    directory: Path,
    watch: BuildWatch,
    signing_key: bytes | None = None,
) -> PackageManifest:
    """Fill an empty directory with an ungated package for another GPU.

    Args:
        backend: What builds it.
        sm: Compute capability, as `sm_of` gives it.
        model: Whose image tower.
        precision: Name of the plan; there is no ladder without a gate.
        buckets: Batch sizes.
        calibration: Activation ranges of the master.
        directory: Empty.
        watch: Progress and cancel.
        signing_key: PEM private key; None leaves the package unsigned.

    Raises:
        ConfigError: `config.no_cross_build`.
        EngineError: The build fails.
        ModelError: The master is not the one that the model's hash speaks of.
    """
    require_cross_builder(backend)
    model.verify("image")
    options = {"sm": sm}
    derived_path = directory / "derived.onnx"
    derived = derive(model.image, plan_named(precision), derived_path, calibration=calibration)
    request = BuildRequest(model, derived.plan, derived.path, derived.sha256, buckets, options)
    files = directory / "files"
    files.mkdir()
    artifact = backend.build(request, files, watch)
    if artifact.target.sm != sm:
        raise EngineError(
            f"{backend.name} built for SM {artifact.target.sm}, asked for {sm}",
            code="engine.other_target",
        )
    manifest = package_manifest(derived, artifact, files, calibration, options)
    derived_path.unlink()
    for file in manifest.files:
        (files / file.name).rename(directory / file.name)
    files.rmdir()
    return seal(directory, manifest, signing_key).manifest


def sm_of(text: str) -> str:
    """A compute capability such as `8.9`, from `sm_89`, `89` or `8.9`.

    Raises:
        ConfigError: `config.target`: it is none of these.
    """
    found = _SM.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{text!r} is no compute capability",
            code="config.target",
            hint="Write it as sm_89, 89 or 8.9.",
        )
    return f"{found[1]}.{found[2]}"


def require_cross_builder(backend: Backend) -> None:
    """Refuse a backend that cannot build for a GPU that is not here.

    Raises:
        ConfigError: `config.no_cross_build`.
    """
    if backend.name not in _CROSS_BUILDERS:
        raise ConfigError(
            f"{backend.name} builds only for the machine that it runs on",
            code="config.no_cross_build",
            hint="Build on a machine with that GPU, or take --backend tensorrt-rtx.",
        )


def judge_package(
    package: EnginePackage,
    reference: Engine,
    frames: FrameSet,
    bank: Truth,
    *,
    model: Model,
    directory: Path,
    frames_words: str = "",
    thresholds: Limits | None = None,
    threads: int = 1,
    signing_key: bytes | None = None,
) -> PackageManifest:
    """Put a package through the gate here, and make a copy of it that carries the verdict.

    Args:
        package: Verified.
        reference: The FP32 master of the same model.
        frames: The gate's frames.
        bank: What must stay: the labels whose decisions do, or what is marked in the frames.
        model: Whose image tower it is.
        directory: Empty; the copy.
        frames_words: What the frames are, for people.
        thresholds: Limits; those of the package's precision when None.
        threads: CPU threads of the engine.
        signing_key: PEM private key; the copy is unsigned without, whatever the package was.

    Raises:
        EngineError: It does not run here, or as `judge`.
        PackageError: `package.unwritable`.
    """
    spec = package.manifest.spec
    engine = open_verified(package, model, threads=threads)
    try:
        limits = thresholds or limits_for(bank)(spec.precision)
        report = judge(reference, engine, frames, bank, limits, frames_words=frames_words)
    finally:
        engine.close()
    attempts = (*package.manifest.attempts, attempt_of(spec.precision, report))
    manifest = replace(package.manifest, gate=report, attempts=attempts)
    try:
        for file in manifest.files:
            shutil.copyfile(package.directory / file.name, directory / file.name)
    except OSError as error:
        raise PackageError(
            f"cannot copy {package.directory}: {error}", code="package.unwritable"
        ) from error
    return seal(directory, manifest, signing_key).manifest
