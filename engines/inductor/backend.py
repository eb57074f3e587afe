"""The aotinductor backend: torch programs compiled ahead of time, on CUDA or on the CPU.

Importing this module imports no torch.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from engines.backend import Artifact, Availability, BuildRequest, BuildWatch, Target
from reelsight.engine.protocol import Engine
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.model import Model

__all__ = ["InductorBackend"]


class InductorBackend:
    """Compiles with torch; uses the GPU where there is one."""

    @property
    def name(self) -> str:
        return "aotinductor"

    @property
    def precisions(self) -> frozenset[str]:
        return frozenset({"fp32", "fp16", "fp16-norms32", "bf16", "int8", "fp8"})

    def probe(self) -> Availability:
        if importlib.util.find_spec("torch") is None:
            return Availability(False, "torch is not installed", "", None)
        try:
            import torch
        except (ImportError, OSError) as error:
            return Availability(False, f"torch cannot be imported: {error}", "", None)
        return Availability(True, "", torch.__version__, _target())

    def build(self, request: BuildRequest, directory: Path, watch: BuildWatch) -> Artifact:
        from engines.inductor.builder import compile_buckets

        request.require_precision(self.name, self.precisions)
        available = self.probe()
        if available.target is None:
            raise EngineError(available.reason, code="engine.backend_unavailable")
        device = "cpu" if available.target.sm is None else "cuda"
        compiled = compile_buckets(request, directory, device, watch)
        return Artifact(
            spec=request.spec(self.name, available.version),
            target=available.target,
            files=compiled.files,
            seconds=compiled.seconds,
            details=compiled.details,
        )

    def refusal(self, spec: EngineSpec, target: Target) -> str | None:
        if spec.backend != self.name or spec.precision not in self.precisions:
            return f"{self.name} does not run {spec.precision} of {spec.backend}"
        available = self.probe()
        if available.target is None:
            return available.reason
        if spec.backend_version != available.version:
            return f"it is for torch {spec.backend_version}, here is {available.version}"
        return target.difference(available.target)

    def open(self, spec: EngineSpec, directory: Path, model: Model, *, threads: int) -> Engine:
        from engines.inductor.runtime import CpuInductorEngine, CudaInductorEngine

        kind = CpuInductorEngine if _target().sm is None else CudaInductorEngine
        return kind(spec, directory, threads=threads)


def _target() -> Target:
    import torch

    if not torch.cuda.is_available():
        from torch._inductor.cpu_vec_isa import pick_vec_isa

        # The code is compiled for this processor's vector instructions.
        libraries = {"torch": torch.__version__, "cpu_isa": str(pick_vec_isa())}
        return Target.here(libraries=libraries)
    major, minor = torch.cuda.get_device_capability()
    libraries = {
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        # The code that launches the kernels is C++, compiled with -march=native for a GPU too. It
        # is asked without a compiler, which a machine that only runs engines need not have.
        "cpu_isa": torch.backends.cpu.get_cpu_capability(),
    }
    return Target.here(sm=f"{major}.{minor}", gpu=torch.cuda.get_device_name(), libraries=libraries)
