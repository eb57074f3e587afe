"""MarkLimits: what an extractor of each precision must still read, and why so much.

The numbers live here alone. Bits are what a person is accused by, so what may be lost of them is
bounded over all frames, in the worst case by itself, and in the p-value that bits are turned into.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.gate.thresholds import MIN_FRAMES
from engines.precision.plan import plan_named

__all__ = ["MarkLimits", "mark_limits_for"]


@dataclass(frozen=True, slots=True)
class MarkLimits:
    """Limits of the gate of extractors; a measure at its limit passes.

    Attributes:
        bits: Most by which the bit accuracy of marked frames may fall, as a share of all bits.
        case_bits: The same of the worst case: one clip after one encoder.
        log10_p: Most decades that the p-value of a case may lose which the reference names.
        presence: Least share of frames of which marked or unmarked is decided as before.
        soft: Least mean cosine between the soft bits of marked frames; also of every batch size.
        min_frames: Fewest frames that say anything.
    """

    bits: float
    case_bits: float
    log10_p: float
    presence: float
    soft: float
    min_frames: int = MIN_FRAMES

    def laxer_than(self, other: MarkLimits) -> list[str]:
        """Names of the limits that let through what the other's would not."""
        most, least = ("bits", "case_bits", "log10_p"), ("presence", "soft", "min_frames")
        # Written so that NaN is laxer.
        found = [name for name in most if not getattr(self, name) <= getattr(other, name)]
        found += [name for name in least if not getattr(self, name) >= getattr(other, name)]
        return found


# Only the order of sums differs.
_SAME_FLOATS = MarkLimits(0.0005, 0.004, 0.05, 0.999, 0.9999)
# Logits near 0 change sides by rounding, to either side alike.
_HALF = MarkLimits(0.002, 0.01, 0.3, 0.995, 0.998)
_BFLOAT = MarkLimits(0.004, 0.02, 0.6, 0.99, 0.99)
# 0.7 points is the project's aim for 8 bits. A case has some hundred bits a frame and few frames,
# so single bits count in it; a decade of p is what two frames more give back.
_EIGHT_BITS = MarkLimits(0.007, 0.03, 1.0, 0.98, 0.97)


def mark_limits_for(precision: str) -> MarkLimits:
    """The limits for a precision plan.

    Raises:
        ConfigError: No such plan.
    """
    plan = plan_named(precision)
    if plan.quantised is not None:
        return _EIGHT_BITS
    return {"fp32": _SAME_FLOATS, "fp16": _HALF, "bf16": _BFLOAT}[plan.floats]
