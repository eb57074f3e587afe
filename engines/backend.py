"""Backend: the seam between packages and the libraries that build and run engines.

A backend probes its library and device, builds an engine's files from a precision-carrying ONNX
file into a directory, and opens what it built. It knows nothing of registries, signatures or the
gate. Libraries are imported when they are used: a backend whose library is missing can be asked
why it is not available.
"""

from __future__ import annotations

import platform
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from engines.precision.plan import PrecisionPlan
from reelsight.digest import file_sha256
from reelsight.engine.protocol import Engine
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.model import Model

__all__ = ["Artifact", "Availability", "Backend", "BuildRequest", "BuildWatch", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that an engine is for: what its files are valid on.

    Attributes:
        os: `linux`.
        arch: Processor, such as `x86_64`.
        sm: CUDA compute capability such as `9.0`; None on a CPU.
        gpu: Name of the GPU, such as `NVIDIA H200`; None on a CPU.
        libraries: Versions that the files are locked to, such as {"torch": "2.11.0+cu130"}.
    """

    os: str
    arch: str
    sm: str | None = None
    gpu: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def here(
        cls,
        *,
        sm: str | None = None,
        gpu: str | None = None,
        libraries: Mapping[str, str] | None = None,
    ) -> Target:
        """A target on this operating system and processor."""
        return cls(sys.platform, platform.machine(), sm, gpu, dict(libraries or {}))

    def difference(
        self, here: Target, *, of: tuple[str, ...] = ("os", "arch", "sm", "libraries")
    ) -> str | None:
        """Why files for this target are not for another one, in words; None when they are.

        Args:
            here: The other one.
            of: Attributes that have to be equal; a backend leaves out what it compares by itself.
        """
        pairs = [(_WORDS[name], getattr(self, name), getattr(here, name)) for name in of]
        differ = [f"{word} {a}, here is {b}" for word, a, b in pairs if a != b]
        return f"it is for {'; for '.join(differ)}" if differ else None


_WORDS = {
    "os": "operating system",
    "arch": "processor",
    "sm": "compute capability",
    "libraries": "libraries",
}


@dataclass(frozen=True, slots=True)
class Availability:
    """What a backend says of the machine it runs on.

    Attributes:
        usable: Whether it can run engines here.
        reason: Why not; empty when usable.
        version: Version of its library; empty when it is not installed.
        target: What it would build for here; None when it is not usable.
    """

    usable: bool
    reason: str
    version: str
    target: Target | None


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build.

    Attributes:
        model: Whose image tower.
        plan: The precision that `source` carries.
        source: The ONNX file that carries the plan, as `derive` made it.
        source_sha256: Of that file; checked before it is read.
        buckets: Batch sizes, ascending.
        options: The backend's own options by name; a backend refuses unknown ones.
    """

    model: Model
    plan: PrecisionPlan
    source: Path
    source_sha256: str
    buckets: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def verify_source(self) -> None:
        """Compare the source with its hash.

        Raises:
            EngineError: `engine.wrong_onnx`; `engine.bad_onnx` when it cannot be read.
        """
        try:
            found = file_sha256(self.source)
        except OSError as error:
            raise EngineError(
                f"the ONNX file cannot be read: {error}", code="engine.bad_onnx"
            ) from error
        if found != self.source_sha256:
            raise EngineError(
                f"{self.source} has hash {found[:12]}, not {self.source_sha256[:12]}",
                code="engine.wrong_onnx",
                hint="Derive the file again; it changed after it was hashed.",
            )

    def require_precision(self, title: str, precisions: frozenset[str]) -> None:
        """Refuse a plan that a backend does not run.

        Args:
            title: What people call the backend.
            precisions: Names of the plans that it runs.

        Raises:
            EngineError: `engine.precision`.
        """
        if self.plan.name not in precisions:
            raise EngineError(
                f"{title} does not run {self.plan.name}, only {', '.join(sorted(precisions))}",
                code="engine.precision",
            )

    def spec(self, backend: str, version: str) -> EngineSpec:
        """The spec of the engine that a backend makes of this request."""
        return EngineSpec(
            model=self.model.name,
            model_hash=self.model.hash,
            backend=backend,
            backend_version=version,
            precision=self.plan.name,
            onnx_sha256=self.source_sha256,
            geometry=self.model.geometry,
            dim=self.model.dim,
            buckets=self.buckets,
        )


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a build left in its directory.

    Attributes:
        spec: The engine that the files make.
        target: Where the files are valid.
        files: Names inside the directory; every file there is named.
        seconds: Wall-clock seconds of the build.
        details: What a person may ask later: layers, warnings, options that were used. JSON values.
    """

    spec: EngineSpec
    target: Target
    files: tuple[str, ...]
    seconds: float
    details: Mapping[str, Any]


class BuildWatch:
    """Progress out of a build and the wish to cancel into it; safe between threads.

    Args:
        on_progress: Called with a phase's name and its part done, 0..1.
    """

    def __init__(self, on_progress: Callable[[str, float], None] | None = None) -> None:
        self._on_progress = on_progress
        self._cancelled = threading.Event()

    def progress(self, phase: str, part: float) -> None:
        """Report progress.

        Raises:
            EngineError: `engine.build_cancelled` after cancel().
        """
        if self._cancelled.is_set():
            raise EngineError("the build was cancelled", code="engine.build_cancelled")
        if self._on_progress is not None:
            self._on_progress(phase, part)

    def cancel(self) -> None:
        """Ask the build to stop; it ends with `engine.build_cancelled` at its next step."""
        self._cancelled.set()

    @property
    def cancelled(self) -> bool:
        """Whether cancel() was called; for libraries that ask instead of being told."""
        return self._cancelled.is_set()


class Backend(Protocol):
    """One library that builds and runs engines."""

    @property
    def name(self) -> str:
        """Stable identifier, such as `onnxruntime-cpu`; what EngineSpec.backend says."""

    @property
    def precisions(self) -> frozenset[str]:
        """Names of the plans that it can build."""

    def probe(self) -> Availability:
        """Look at the library and device of this process; never raises for a missing one."""

    def build(self, request: BuildRequest, directory: Path, watch: BuildWatch) -> Artifact:
        """Build into an empty directory.

        Raises:
            EngineError: The build failed, with the library's own words; or was cancelled.
        """

    def refusal(self, spec: EngineSpec, target: Target) -> str | None:
        """Why files of this spec and target cannot be opened here; None when they can."""

    def open(self, spec: EngineSpec, directory: Path, model: Model, *, threads: int) -> Engine:
        """Open what build() wrote; hashes and signature were checked by the caller.

        Args:
            spec: Of the package; the engine's spec equals it.
            directory: Where the files are.
            model: Whose image tower it is.
            threads: CPU threads that the engine may use.

        Raises:
            EngineError: The files cannot be loaded here.
        """
