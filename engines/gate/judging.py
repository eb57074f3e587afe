"""Which gate judges an engine: that of tags for image towers, that of marks for extractors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from engines.gate.gate import run_gate
from engines.gate.mark_gate import MarkTruth, run_mark_gate
from engines.gate.mark_limits import MarkLimits, mark_limits_for
from engines.gate.mark_report import MarkReport
from engines.gate.report import GateReport
from engines.gate.thresholds import Thresholds, thresholds_for
from engines.precision.frameset import FrameSet
from reelsight.engine.protocol import Engine
from reelsight.errors import ConfigError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.label_bank import LabelBank

__all__ = ["Limits", "Report", "Truth", "judge", "laxer_limits", "limits_for"]

Truth = LabelBank | MarkTruth
"""What has to stay: the decisions on a bank's labels, or the bits that are marked."""
Limits = Thresholds | MarkLimits
Report = GateReport | MarkReport


def limits_for(truth: Truth) -> Callable[[str], Limits]:
    """The limits of each precision, by what has to stay."""
    return mark_limits_for if isinstance(truth, MarkTruth) else thresholds_for


def judge(
    reference: Engine,
    candidate: Engine,
    frames: FrameSet,
    truth: Truth,
    limits: Limits,
    *,
    frames_words: str = "",
    reference_rows: npt.NDArray[np.float32] | None = None,
) -> Report:
    """Judge a candidate; arguments and errors as of `run_gate` and `run_mark_gate`.

    Raises:
        ConfigError: `gate.other_limits`: the limits are of the other gate.
    """
    words, rows = frames_words, reference_rows
    if isinstance(truth, MarkTruth) and isinstance(limits, MarkLimits):
        return run_mark_gate(
            reference, candidate, frames, truth, limits, frames_words=words, reference_rows=rows
        )
    if isinstance(truth, LabelBank) and isinstance(limits, Thresholds):
        return run_gate(
            reference, candidate, frames, truth, limits, frames_words=words, reference_rows=rows
        )
    raise ConfigError(
        f"{type(limits).__name__} are no limits of {type(truth).__name__}",
        code="gate.other_limits",
    )


def laxer_limits(report: Report, spec: EngineSpec) -> list[str]:
    """Names of the limits that a report was laxer in than this version would be."""
    if isinstance(report, MarkReport):
        return report.thresholds.laxer_than(mark_limits_for(spec.precision))
    return report.thresholds.laxer_than(thresholds_for(spec.precision))
