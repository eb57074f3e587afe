"""BuildOptions: how TensorRT shall build; read strictly from a request's options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from engines.trt.flavour import Flavour
from reelsight.errors import ConfigError

__all__ = ["HARDWARE_LEVELS", "BuildOptions"]

# As the options say it, and TensorRT's HardwareCompatibilityLevel.
HARDWARE_LEVELS = {
    "this-gpu": "NONE",
    "same-sm": "SAME_COMPUTE_CAPABILITY",
    "ampere-and-newer": "AMPERE_PLUS",
}
# TensorRT clamps a higher level without a word.
_HIGHEST_LEVEL = 5


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to build.

    Attributes:
        optimization_level: 0 (builds fastest) .. 5 (searches longest).
        workspace_mb: Most scratch memory that a kernel may ask for, MiB; None for all there is.
        hardware: What GPUs the plan is for, one of HARDWARE_LEVELS. `this-gpu` is fastest.
        version_compatible: The plan also runs on later versions of the same major version.
        timing_cache: File of kernel timings that builds share; None for none.
        tf32: Let FP32 products round their inputs to TF32. TensorRT's own default is yes; ours is
            no, because the fp32 plan is what the others are measured against.
        detailed: Keep every layer's shapes and types in the plan for the inspector.
        sm: Compute capability to build for, such as `8.9`; None for the GPU of this machine.
    """

    optimization_level: int = 3
    workspace_mb: int | None = None
    hardware: str = "this-gpu"
    version_compatible: bool = False
    timing_cache: Path | None = None
    tf32: bool = False
    detailed: bool = False
    sm: str | None = None

    @classmethod
    def read(cls, options: Mapping[str, Any], flavour: Flavour) -> BuildOptions:
        """Read a request's options.

        Raises:
            ConfigError: `config.engine_option` for an unknown option, one that this flavour does
                not have, or a value that it cannot take.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise _refused(f"no option {unknown[0]!r} in {flavour.title}")
        values = dict(options)
        timings = values.get("timing_cache")
        if timings is not None:
            if not isinstance(timings, str | Path):
                raise _refused(f"timing_cache is {timings!r}, not the name of a file")
            values["timing_cache"] = Path(timings)
        if type(values.get("sm")) is float:
            values["sm"] = str(values["sm"])  # What YAML makes of 8.9.
        read = cls(**values)
        read._check(flavour)
        return read

    def _check(self, flavour: Flavour) -> None:
        level, workspace = self.optimization_level, self.workspace_mb
        if type(level) is not int or not 0 <= level <= _HIGHEST_LEVEL:
            raise _refused(f"optimization_level is {level!r}, not 0..{_HIGHEST_LEVEL}")
        if workspace is not None and (type(workspace) is not int or workspace < 1):
            raise _refused(f"workspace_mb is {workspace!r}, not a number of MiB")
        if not isinstance(self.hardware, str) or self.hardware not in HARDWARE_LEVELS:
            raise _refused(f"hardware is {self.hardware!r}, not of {', '.join(HARDWARE_LEVELS)}")
        for name in ("version_compatible", "tf32", "detailed"):
            if type(getattr(self, name)) is not bool:
                raise _refused(f"{name} is {getattr(self, name)!r}, not true or false")
        sm = self.sm
        if sm is not None and not (isinstance(sm, str) and re.fullmatch(r"[1-9]\d?\.\d", sm)):
            raise _refused(f"sm is {self.sm!r}, not a compute capability such as 8.9")
        absent = {
            "timing_cache": self.timing_cache is not None and not flavour.timing_cache,
            "hardware": self.hardware != "this-gpu" and not flavour.compatibility,
            "version_compatible": self.version_compatible and not flavour.compatibility,
            "sm": self.sm is not None and not flavour.cross_build,
        }
        for name, refused in absent.items():
            if refused:
                raise _refused(f"{flavour.title} has no {name}: {_WHY[name]}")


_WHY = {
    "timing_cache": "it times nothing while it builds",
    "hardware": "name the compute capability by `sm` instead",
    "version_compatible": "its plans belong to one version",
    "sm": "it builds on the GPU that it builds for",
}


def _refused(message: str) -> ConfigError:
    names = ", ".join(field.name for field in fields(BuildOptions))
    return ConfigError(message, code="config.engine_option", hint=f"The options are {names}.")
