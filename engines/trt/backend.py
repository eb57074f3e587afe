"""TensorRT as a Backend: what it says of this machine, how it builds, and what it opens.

Nothing of the library is touched before a driver answered where a GPU is needed, because NVIDIA's
runtime crashes without one. Registries, signatures and the gate are not known here.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path

from engines.backend import Artifact, Availability, BuildRequest, BuildWatch, Target
from engines.cuda.device import CudaDevice
from engines.cuda.pycuda_device import PycudaDevice
from engines.trt.builder import PLAN, build_plan
from engines.trt.flavour import Flavour
from engines.trt.library import Library
from engines.trt.options import BuildOptions
from engines.trt.runtime import TrtEngine
from reelsight.errors import EngineError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.model import Model

__all__ = ["TensorRtBackend"]

# Ada's tensor cores are the first that know it; TensorRT refuses it before in words of its own.
_FP8_FROM = 8.9


class TensorRtBackend:
    """One flavour of TensorRT.

    Args:
        flavour: TENSORRT or TENSORRT_RTX.
        open_device: Opens the GPU that engines run on.
    """

    def __init__(
        self,
        flavour: Flavour,
        *,
        open_device: Callable[[], CudaDevice] = PycudaDevice,
    ) -> None:
        self._flavour = flavour
        self._open_device = open_device

    @property
    def name(self) -> str:
        return self._flavour.name

    @property
    def precisions(self) -> frozenset[str]:
        return frozenset({"fp32", "fp16", "fp16-norms32", "bf16", "int8", "fp8"})

    def probe(self) -> Availability:
        version = ""
        try:
            lib = self._flavour.load()
            version = lib.__version__
            name, sm = self._gpu()
            self._buildable(lib, sm)
        except EngineError as error:
            return Availability(usable=False, reason=error.message, version=version, target=None)
        lock = self._flavour.library_lock(version, version_compatible=False)
        return Availability(
            usable=True,
            reason="",
            version=version,
            target=Target.here(sm=sm, gpu=name, libraries=lock),
        )

    def build(self, request: BuildRequest, directory: Path, watch: BuildWatch) -> Artifact:
        lib = self._flavour.load()
        options = BuildOptions.read(request.options, self._flavour)
        request.require_precision(self._flavour.title, self.precisions)
        begun = time.monotonic()
        with contextlib.ExitStack() as gpu:
            if options.sm is None:
                device = self._open_device()
                gpu.callback(device.close)
                gpu.enter_context(device.current())
                name, sm = device.name, device.sm
            else:
                name, sm = "", options.sm
            self._buildable(lib, sm)
            if request.plan.quantised == "fp8" and float(sm) < _FP8_FROM:
                raise EngineError(
                    f"fp8 needs compute capability {_FP8_FROM} or newer, and this is for {sm}",
                    code="engine.precision",
                    hint="Build int8 or fp16 for this GPU.",
                )
            plan = directory / PLAN
            details = build_plan(self._flavour, lib, request, options, sm, plan, watch)
        seconds = time.monotonic() - begun
        details["options"] = {key: str(value) for key, value in sorted(request.options.items())}
        return Artifact(
            spec=request.spec(self.name, lib.__version__),
            target=self._target(options, sm, name, lib.__version__),
            files=(PLAN,),
            seconds=seconds,
            details=details,
        )

    def refusal(self, spec: EngineSpec, target: Target) -> str | None:
        if spec.backend != self.name:
            return f"it is an engine of {spec.backend}, not of {self.name}"
        elsewhere = target.difference(Target.here(), of=("os", "arch"))
        if elsewhere is not None:
            return elsewhere
        available = self.probe()
        if available.target is None:
            return available.reason
        wanted = target.libraries.get(self._flavour.module, "")
        several = self._flavour.compatibility
        if not _version_fits(wanted, available.version, later=several):
            return f"it needs {self._flavour.title} {wanted}, and {available.version} is installed"
        mine = available.target
        if not _sm_fits(target.sm or "", mine.sm or "", higher=several):
            return f"it is for GPUs of SM {target.sm}, and {mine.gpu} is SM {mine.sm}"
        if target.gpu is not None and target.gpu != mine.gpu:
            return f"it was tuned on {target.gpu} for no other GPU, and this is {mine.gpu}"
        return None

    def open(self, spec: EngineSpec, directory: Path, model: Model, *, threads: int) -> TrtEngine:
        if spec.model_hash != model.hash:
            raise EngineError(
                f"the engine is of model {spec.model_hash[:12]}, not of {model.hash[:12]}",
                code="engine.unloadable",
            )
        lib = self._flavour.load()
        device = self._open_device()
        return TrtEngine(self._flavour, lib, spec, directory / PLAN, device, threads=threads)

    def _gpu(self) -> tuple[str, str]:
        device = self._open_device()
        try:
            return device.name, device.sm
        finally:
            device.close()

    def _buildable(self, lib: Library, sm: str) -> None:
        if not self._flavour.built_for(lib, (sm,)):
            raise EngineError(
                f"{self._flavour.title} {lib.__version__} is for compute capabilities "
                f"{self._flavour.supported(lib)}, and not for {sm}",
                code="engine.unsupported_gpu",
                hint="Use another backend on this GPU: onnxruntime-cuda or aotinductor.",
            )

    def _target(self, options: BuildOptions, sm: str, name: str, version: str) -> Target:
        if options.hardware == "ampere-and-newer":
            sm = "8.0+"
        tuned = not self._flavour.cross_build and options.hardware == "this-gpu"
        lock = self._flavour.library_lock(version, options.version_compatible)
        return Target.here(sm=sm, gpu=name if tuned else None, libraries=lock)


def _version_fits(wanted: str, installed: str, *, later: bool) -> bool:
    """Whether a plan of the wanted version runs on the installed one.

    Args:
        wanted: `11.4.0.106` is that version; `11.4.0.106+` that or a later one of the same major
            version.
        installed: Of the library.
        later: Whether the library can build plans for later versions.
    """
    if not wanted.endswith("+"):
        return wanted == installed
    needed, have = _numbers(wanted[:-1]), _numbers(installed)
    if not later or needed is None or have is None:
        return False
    return needed[0] == have[0] and have >= needed


def _sm_fits(wanted: str, here: str, *, higher: bool) -> bool:
    """Whether a plan for the wanted compute capability runs on a GPU.

    Args:
        wanted: `8.9` is that compute capability; `8.0+` that or a higher one.
        here: The GPU's.
        higher: Whether the library can build plans for higher ones.
    """
    if not wanted.endswith("+"):
        return wanted == here
    needed, have = _numbers(wanted[:-1]), _numbers(here)
    return higher and needed is not None and have is not None and have >= needed


def _numbers(version: str) -> tuple[int, ...] | None:
    """The parts of a version; None for what is none."""
    if not re.fullmatch(r"\d+(\.\d+)*", version, re.ASCII):
        return None
    return tuple(int(part) for part in version.split("."))
