"""The two flavours of TensorRT and everything in which they differ.

A plan of one cannot be read by the other. TensorRT tunes on the GPU that it builds for and keeps
what it timed; TensorRT-RTX times nothing, builds for any supported compute capability on a machine
without a GPU, and compiles its last step where the plan runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from engines.trt.library import Library, load_library
from reelsight.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt
    import tensorrt_rtx as rtx

__all__ = ["TENSORRT", "TENSORRT_RTX", "Flavour"]


@dataclass(frozen=True, slots=True)
class Flavour:
    """One of the two libraries.

    Attributes:
        name: What EngineSpec.backend says.
        module: What Python imports.
        title: What people call it.
        major: Major version that this adapter speaks.
        timing_cache: It times kernels while building and can keep the timings.
        compatibility: It can build one plan for several GPUs or versions (`hardware`,
            `version_compatible`).
        cross_build: It builds for a compute capability that this machine need not have.
        jit: It compiles for the GPU when the plan is opened. What it compiled can be kept; it is
            not: that is native code, which no signature speaks of.
    """

    name: str
    module: str
    title: str
    major: int
    timing_cache: bool
    compatibility: bool
    cross_build: bool
    jit: bool

    def load(self) -> Library:
        """Import the library.

        Raises:
            EngineError: It is not installed, or of a version that this adapter does not speak.
        """
        lib = load_library(self.module)
        if int(lib.__version__.split(".")[0]) != self.major:
            raise EngineError(
                f"{self.title} {lib.__version__} is installed and {self.major}.x is needed: older "
                "ones decide precisions by themselves, newer ones are not known",
                code="engine.backend_version",
                hint=f"pip install '{self.module}~={self.major}.0'",
            )
        return lib

    def built_for(self, lib: Library, capabilities: tuple[str, ...]) -> tuple[str, ...]:
        """Of these compute capabilities, such as `8.9`, those that the library builds for."""
        if not self.cross_build:
            # TensorRT 11 starts with Turing.
            return tuple(sm for sm in capabilities if float(sm) >= 7.5)
        return tuple(sm for sm in capabilities if _member(sm) in lib.ComputeCapability.__members__)

    def supported(self, lib: Library) -> str:
        """The compute capabilities it builds for, in words."""
        if not self.cross_build:
            return "7.5 and newer"
        names = (name[2:] for name in lib.ComputeCapability.__members__ if name.startswith("SM"))
        return ", ".join(f"{name[:-1]}.{name[-1]}" for name in names)

    def aim(self, lib: Library, config: trt.IBuilderConfig, sm: str) -> None:
        """Let a build of TensorRT-RTX be for one compute capability.

        Raises:
            EngineError: The library does not take it.
        """
        wanted = lib.ComputeCapability.__members__[_member(sm)]
        own = cast("rtx.IBuilderConfig", config)
        own.num_compute_capabilities = 1
        if not own.set_compute_capability(wanted, 0) or own.get_compute_capability(0) != wanted:
            raise EngineError(f"{self.title} {lib.__version__} does not build for SM {sm}")

    def context(self, engine: trt.ICudaEngine) -> trt.IExecutionContext | None:
        """An execution context; None when the library cannot make one."""
        if not self.jit:
            return engine.create_execution_context()
        # Graphs are captured after one run: what that run used must be the final kernels.
        own = cast("rtx.ICudaEngine", engine)
        config = own.create_runtime_config()
        strategy = type(config.dynamic_shapes_kernel_specialization_strategy)
        config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
        return cast("trt.IExecutionContext | None", own.create_execution_context(config))

    def capturable(self, context: trt.IExecutionContext, stream: int) -> bool:
        """Whether the next enqueue may be captured into a CUDA graph."""
        if not self.jit:
            return True
        return bool(cast("rtx.IExecutionContext", context).is_stream_capturable(stream))

    def library_lock(self, version: str, version_compatible: bool) -> dict[str, str]:
        """What Target.libraries says: `11.4.0.106` alone, or with `+` that version and later."""
        return {self.module: version + ("+" if version_compatible else "")}


TENSORRT = Flavour(
    "tensorrt", "tensorrt", "TensorRT", 11,
    timing_cache=True, compatibility=True, cross_build=False, jit=False,
)  # fmt: skip
TENSORRT_RTX = Flavour(
    "tensorrt-rtx", "tensorrt_rtx", "TensorRT-RTX", 1,
    timing_cache=False, compatibility=False, cross_build=True, jit=True,
)  # fmt: skip


def _member(sm: str) -> str:
    return "SM" + sm.replace(".", "")
