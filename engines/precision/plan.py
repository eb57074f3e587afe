"""PrecisionPlan: what arithmetic an engine does, and what to fall back to when the gate refuses it.

A plan is a value: it names precisions and exceptions, and knows neither graphs nor runtimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reelsight.errors import ConfigError

__all__ = ["PLANS", "FloatType", "PrecisionPlan", "Quantised", "ladder", "plan_named"]

FloatType = Literal["fp32", "fp16", "bf16"]
Quantised = Literal["int8", "fp8"]


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """The arithmetic of one engine.

    Attributes:
        name: Stable identifier; what EngineSpec.precision and a package's path say.
        floats: Type of everything that is not quantised, weights and activations alike.
        quantised: Type of the GEMMs and convolutions that are, explicitly by Q/DQ; None for none.
        norms_fp32: LayerNormalization, softmax and the final L2 norm stay in FP32.
    """

    name: str
    floats: FloatType
    quantised: Quantised | None = None
    norms_fp32: bool = False

    @property
    def needs_calibration(self) -> bool:
        """Whether activation ranges must be measured first."""
        return self.quantised is not None

    @property
    def runs_on(self) -> Literal["any", "cpu", "gpu"]:
        """Where the derived file runs at speed, if at all.

        ONNX Runtime's CPU kernels have no BF16, compute FP16 in FP32, and fuse only the CPU's own
        form of INT8, which TensorRT refuses.
        """
        if self.floats == "fp32":
            return "any" if self.quantised is None else "cpu"
        return "gpu"


# What stays unquantised beside INT8 or FP8 must be FP16 on a GPU: in FP32 it costs more than the
# quantised part saves. On a CPU FP16 is emulated, so the CPU's INT8 leaves the rest in FP32.
PLANS: dict[str, PrecisionPlan] = {
    plan.name: plan
    for plan in (
        PrecisionPlan("fp32", "fp32"),
        PrecisionPlan("fp16", "fp16"),
        PrecisionPlan("fp16-norms32", "fp16", norms_fp32=True),
        PrecisionPlan("bf16", "bf16"),
        PrecisionPlan("int8", "fp16", "int8"),
        PrecisionPlan("int8-fp32", "fp32", "int8"),
        PrecisionPlan("fp8", "fp16", "fp8"),
    )
}

_LADDERS: dict[str, tuple[str, ...]] = {
    "fp32": (),
    "fp16-norms32": ("fp32",),
    "fp16": ("fp16-norms32", "fp32"),
    "bf16": ("fp32",),
    "int8": ("fp16", "fp16-norms32", "fp32"),
    "int8-fp32": ("fp32",),
    "fp8": ("fp16", "fp16-norms32", "fp32"),
}


def plan_named(name: str) -> PrecisionPlan:
    """A plan by name.

    Raises:
        ConfigError: No such plan.
    """
    try:
        return PLANS[name]
    except KeyError:
        raise ConfigError(
            f"no precision {name!r}; there are {', '.join(PLANS)}", code="config.precision"
        ) from None


def ladder(name: str) -> tuple[PrecisionPlan, ...]:
    """The plan and what to fall back to, in order; the last is always fp32.

    Raises:
        ConfigError: No such plan.
    """
    first = plan_named(name)
    return (first, *(PLANS[lower] for lower in _LADDERS[name]))
