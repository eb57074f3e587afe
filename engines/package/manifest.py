"""manifest.json: what an engine package is, what it was made of, and where it may run.

The file is canonical JSON, so its bytes can be signed, and it is read strictly: a field too many,
too few or of another kind is an error and never a default. It opens no file of the package.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engines.backend import Target
from engines.gate.mark_report import MarkReport
from engines.gate.report import Attempt, GateReport
from engines.package.strict_json import read
from engines.precision.plan import PLANS, PrecisionPlan
from reelsight.errors import PackageError
from reelsight.nouns.engine_spec import EngineSpec, Geometry

__all__ = [
    "FORMAT",
    "MANIFEST",
    "SIGNATURE",
    "CalibrationId",
    "PackageFile",
    "PackageManifest",
    "TensorInfo",
    "image_tensors",
    "package_path",
    "preprocessing_id",
]

FORMAT = 1
MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
_MAX_BYTES = 16 * 2**20
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file beside the manifest."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output: NumPy's name of its dtype, and its shape with None for the batch."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class CalibrationId:
    """Where the activation ranges came from: the method, and the hash of the calibration."""

    method: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PackageManifest:
    """Everything that is known of a package.

    Attributes:
        spec: The engine; its `onnx_sha256` is the derived file's.
        target: Where the files are valid.
        plan: The arithmetic.
        master_sha256: Of the FP32 ONNX master that the derived file was made of.
        calibration: None where none was used.
        inputs, outputs: What the engine takes and gives.
        preprocessing: How pixels must be made; see preprocessing_id.
        files: Every file of the package but manifest and signature.
        build_s: Wall-clock seconds of the build.
        options: The backend's own options that were asked for; JSON values.
        details: What the backend has to say of the build; JSON values.
        code_version: Of Reelsight.
        created_at: UTC, ISO 8601.
        gate: What the gate said; None when it was not asked.
        attempts: The rungs of the ladder that led here; the last is this package.
        benchmark: What `measure_engine` gave; None when it was not measured.
    """

    spec: EngineSpec
    target: Target
    plan: PrecisionPlan
    master_sha256: str
    calibration: CalibrationId | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    preprocessing: str
    files: tuple[PackageFile, ...]
    build_s: float
    options: Mapping[str, Any]
    details: Mapping[str, Any]
    code_version: str
    created_at: str
    gate: GateReport | MarkReport | None = None
    attempts: tuple[Attempt, ...] = ()
    benchmark: Mapping[str, Any] | None = field(default=None)

    def to_bytes(self) -> bytes:
        """Canonical JSON; equal manifests are equal bytes."""
        document = {"format": FORMAT, **asdict(self)}
        text = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()

    @property
    def path(self) -> str:
        """Where the package lies below a registry's root; see package_path."""
        return package_path(self)

    @property
    def refusal(self) -> str | None:
        """Why it may not be published or served whatever the machine; None when it may."""
        if self.gate is None:
            return "it was never put through the gate"
        if not self.gate.passed:
            return f"the gate stopped it: {'; '.join(self.gate.reasons)}"
        if not self.gate.stands_alone:
            return self.gate.rerun_words
        return None

    @property
    def refusal_code(self) -> str:
        """Stable identifier of `refusal`."""
        if self.gate is None:
            return "package.ungated"
        return "package.needs_rerun" if self.gate.passed else "package.gate_failed"

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> PackageManifest:
        """Read a manifest.

        Args:
            content: The bytes of manifest.json.
            where: Named in errors.

        Raises:
            PackageError: `package.format` for another format, `package.unsafe_name` for a file
                name that leads out of the package, else `package.malformed`.
        """
        try:
            if len(content) > _MAX_BYTES:
                raise ValueError(f"{len(content)} bytes")
            document = json.loads(content, parse_constant=_no_constant)
            found = document.pop("format")
            if found != FORMAT:
                raise PackageError(
                    f"{where} has package format {found!r}, this version reads {FORMAT}",
                    code="package.format",
                )
            manifest = read(cls, document)
            if manifest.gate is not None:
                manifest.gate.require_consistent()
        # OverflowError: a whole number that no float holds.
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise PackageError(
                f"{where} is not a package manifest: {error!r}", code="package.malformed"
            ) from error
        _check(manifest, where)
        return manifest


def package_path(manifest: PackageManifest) -> str:
    """`<model>/<master sha12>/<precision>/<backend>-<version>/<sm-gpu|cpu>/<profile>`.

    The profile names the batch buckets, and the options that were asked for by their hash.
    """
    spec, target = manifest.spec, manifest.target
    device = f"sm{target.sm}-{target.gpu or 'any'}" if target.sm is not None else "cpu"
    profile = "b" + "-".join(str(bucket) for bucket in spec.buckets)
    if manifest.options:
        text = json.dumps(manifest.options, sort_keys=True)
        profile += f"-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    parts = (
        spec.model,
        manifest.master_sha256[:12],
        spec.precision,
        f"{spec.backend}-{spec.backend_version}",
        f"{device}-{target.os}-{target.arch}",
        profile,
    )
    return "/".join(_slug(part) for part in parts)


def preprocessing_id(geometry: Geometry) -> str:
    """How pixels are made for an engine of this geometry; normalisation is inside the engine."""
    if geometry.mode == "active":
        return f"luma-uint8-nhwc/active-{geometry.size}/antialiased-bilinear/1"
    return f"rgb-uint8-nhwc/{geometry.mode}-{geometry.size}/antialiased-bicubic/1"


def image_tensors(
    geometry: Geometry, dim: int
) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of every image tower."""
    frames = TensorInfo("frames", "uint8", (None, geometry.size, geometry.size, 3))
    return (frames,), (TensorInfo("embedding", "float32", (None, dim)),)


def _slug(text: str) -> str:
    """A path component that leads nowhere else."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text).lstrip(".") or "-"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _check(manifest: PackageManifest, where: str) -> None:
    """What JSON's types do not say."""
    for file in manifest.files:
        if not _FILE_NAME.fullmatch(file.name):
            raise PackageError(
                f"{where} names a file {file.name!r}, which is no plain name inside the package",
                code="package.unsafe_name",
                hint="Do not use this package; find out where it came from.",
            )
    names = [file.name for file in manifest.files]
    spec, target = manifest.spec, manifest.target
    hashes = (spec.model_hash, spec.onnx_sha256, manifest.master_sha256)
    texts = (spec.model, spec.backend, spec.backend_version, target.os, target.arch)
    faults = {
        "it names no files": not names,
        "files are named twice": len(set(names)) != len(names),
        "a file takes the manifest's name": bool({MANIFEST, SIGNATURE} & set(names)),
        "a size is not a number of bytes": any(file.bytes < 0 for file in manifest.files),
        "a hash is no sha256": not all(
            _SHA256.fullmatch(digest)
            for digest in (*hashes, *(file.sha256 for file in manifest.files))
        ),
        "a name is empty": not all(texts),
        "its plan is not what its precision says": PLANS.get(spec.precision) != manifest.plan,
        "its plan needs a calibration, and it names none": manifest.plan.needs_calibration
        and manifest.calibration is None,
        "its benchmark is not one": not _is_benchmark(manifest.benchmark),
        "its gate report is of another engine": manifest.gate is not None
        and manifest.gate.engine != spec.hash,
        "its gate report is of another kind of engine": manifest.gate is not None
        and isinstance(manifest.gate, MarkReport) != (spec.geometry.mode == "active"),
        "its preprocessing is not that of this version": manifest.preprocessing
        != preprocessing_id(spec.geometry),
        "its tensors are not an image tower's": (manifest.inputs, manifest.outputs)
        != image_tensors(spec.geometry, spec.dim),
    }
    found = [fault for fault, wrong in faults.items() if wrong]
    if found:
        raise PackageError(f"{where}: {'; '.join(found)}", code="package.malformed")


def _is_benchmark(document: Mapping[str, Any] | None) -> bool:
    """Whether what people and the negotiator read of a benchmark is there."""
    if document is None:
        return True
    latency, machine = document.get("latency_ms"), document.get("machine")
    if not isinstance(latency, dict) or not isinstance(machine, dict):
        return False
    numbers: list[Any] = [document.get("frames_per_s"), latency.get("p50"), latency.get("p99")]
    return all(type(n) in (int, float) and 0 < n < float("inf") for n in numbers)
