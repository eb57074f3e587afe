"""ONNX Runtime as a backend of packages: the derived ONNX file is the engine's file.

A session optimised offline is locked to one version and one processor's instructions and saves only
seconds at opening, so the package holds the file itself. One class serves the CPU and CUDA.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import onnxruntime as ort

from engines.backend import Artifact, Availability, BuildRequest, BuildWatch, Target
from engines.runtimes.ort_cpu import OrtEngine
from reelsight.engine.protocol import Engine
from reelsight.errors import ConfigError, EngineError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.model import Model

__all__ = ["OrtBackend"]

_FILE = "image.onnx"
_CPU, _CUDA = "onnxruntime-cpu", "onnxruntime-cuda"
_PROVIDERS = {_CPU: "CPUExecutionProvider", _CUDA: "CUDAExecutionProvider"}
# FP16 is emulated on a CPU, and ONNX Runtime's CPU optimiser crashes the process on FP16
# transformers. CUDA has no kernel for the explicit INT8 of these files and would compute them in
# floating point, slower than FP16.
_PRECISIONS = {
    _CPU: frozenset({"fp32", "int8-fp32"}),
    _CUDA: frozenset({"fp32", "fp16", "fp16-norms32"}),
}


class OrtBackend:
    """One of ONNX Runtime's providers.

    Args:
        name: `onnxruntime-cpu` or `onnxruntime-cuda`.

    Raises:
        ConfigError: Another name.
    """

    def __init__(self, name: str) -> None:
        if name not in _PROVIDERS:
            raise ConfigError(f"{name!r} is not one of {', '.join(_PROVIDERS)}")
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    @property
    def precisions(self) -> frozenset[str]:
        return _PRECISIONS[self._name]

    def probe(self) -> Availability:
        version = ort.__version__
        provider = _PROVIDERS[self._name]
        if provider not in ort.get_available_providers():
            reason = f"the installed onnxruntime {version} has no {provider}"
            return Availability(False, reason, version, None)
        sm, gpu = (None, None) if self._name == _CPU else _gpu()
        if self._name == _CUDA and sm is None:
            return Availability(False, "nvidia-smi names no GPU", version, None)
        libraries = {"onnxruntime": version}
        target = Target.here(sm=sm, gpu=gpu, libraries=libraries)
        return Availability(True, "", version, target)

    def build(self, request: BuildRequest, directory: Path, watch: BuildWatch) -> Artifact:
        state = self.probe()
        if state.target is None:
            raise EngineError(state.reason, code="engine.unavailable")
        request.require_precision(self._name, self.precisions)
        if request.options:
            raise ConfigError(
                f"{self._name} has no options, got {sorted(request.options)}",
                code="config.engine_option",
            )
        started = time.perf_counter()
        watch.progress("copy", 0.0)
        _copy(request, directory / _FILE)
        spec = request.spec(self._name, state.version)
        watch.progress("open", 0.5)
        self.open(spec, directory, request.model, threads=1).close()
        watch.progress("open", 1.0)
        seconds = time.perf_counter() - started
        return Artifact(spec, state.target, (_FILE,), seconds, {})

    def refusal(self, spec: EngineSpec, target: Target) -> str | None:
        state = self.probe()
        here = state.target
        if here is None:
            return state.reason
        if spec.backend != self._name or spec.precision not in self.precisions:
            return f"{self._name} does not run {spec.precision} of {spec.backend}"
        if spec.backend_version != state.version:
            return f"it is for onnxruntime {spec.backend_version}, here is {state.version}"
        return target.difference(here)

    def open(self, spec: EngineSpec, directory: Path, model: Model, *, threads: int) -> Engine:
        if spec.precision not in self.precisions:
            # Some files of other precisions do not fail here but crash the process.
            raise EngineError(
                f"{self._name} does not run {spec.precision}", code="engine.precision"
            )
        return OrtEngine(spec, directory / _FILE, threads=threads, provider=_PROVIDERS[self._name])


def _copy(request: BuildRequest, target: Path) -> None:
    source = request.source
    if source.with_name(source.name + ".data").exists():
        raise EngineError(
            f"{source} keeps weights in a second file, which packages of onnxruntime do not hold",
            code="engine.external_weights",
            hint="Build it for another backend, or at a precision of less than 2 GB.",
        )
    request.verify_source()
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise EngineError(f"cannot copy {source}: {error}", code="engine.unwritable") from error


def _gpu() -> tuple[str | None, str | None]:
    """Compute capability and name of the first GPU, by the driver's own tool."""
    command = ["nvidia-smi", "--query-gpu=compute_cap,name", "--format=csv,noheader", "-i", "0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None, None
    sm, _, name = done.stdout.strip().partition(", ")
    return sm, name
