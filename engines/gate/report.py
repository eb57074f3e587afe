"""GateReport: what the gate saw and what it decided, in numbers and in words.

A value that a manifest carries. It measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engines.gate.thresholds import Thresholds

__all__ = ["Attempt", "GateReport", "LabelAgreement", "Outcome", "Rerun", "Spread"]

Outcome = Literal["passed", "failed", "not_buildable", "build_failed"]


@dataclass(frozen=True, slots=True)
class Spread:
    """How a per-frame measure is spread: mean, first percentile, minimum."""

    mean: float
    p1: float
    min: float


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """How often one label was decided as before.

    Attributes:
        label: Its name.
        agreement: Share of frames, 0..1.
        changed: Frames in which it was decided otherwise.
        critical: Whether the bank calls it critical.
    """

    label: str
    agreement: float
    changed: int
    critical: bool


@dataclass(frozen=True, slots=True)
class Rerun:
    """A critical label that this engine alone may not decide near its threshold.

    Attributes:
        label: Its name.
        margin: Frames whose |cosine - threshold| on this engine is at most this have to be run
            again at a higher precision.
        share: Part of the gate's frames that are so near.
    """

    label: str
    margin: float
    share: float


@dataclass(frozen=True, slots=True)
class GateReport:
    """One run of the gate.

    Attributes:
        passed: Whether the engine may be published.
        reasons: Why not, one sentence each; empty when it passed.
        engine: Hash of the spec of the engine that was judged.
        reference: Hash of the spec of the engine that it was compared with.
        reference_words: That engine for people: backend, version and precision.
        frames: Number of frames.
        frames_sha256: Of their content.
        frames_words: What the frames are, for people.
        bank: Name of the bank whose labels were compared.
        bank_hash: Its hash.
        thresholds: The limits that were used.
        centred_cosine: Per frame; None, as the measures below, when outputs were not finite.
        decisions: Share of decisions that stayed.
        shown: Decisions "shown" that both engines made over those that either made.
        top1: Share of frames whose best label stayed.
        topk: Mean overlap of the best k labels.
        worst_labels: Labels with the lowest agreement, worst first; critical ones always.
        needs_higher_precision: Critical labels that pass only if frames near their thresholds are
            run again at a higher precision.
    """

    passed: bool
    reasons: tuple[str, ...]
    engine: str
    reference: str
    reference_words: str
    frames: int
    frames_sha256: str
    frames_words: str
    bank: str
    bank_hash: str
    thresholds: Thresholds
    centred_cosine: Spread | None = None
    decisions: float | None = None
    shown: float | None = None
    top1: float | None = None
    topk: float | None = None
    worst_labels: tuple[LabelAgreement, ...] = ()
    needs_higher_precision: tuple[Rerun, ...] = ()

    @property
    def stands_alone(self) -> bool:
        """Whether it may be served by a caller that runs no frame twice."""
        return self.passed and not self.needs_higher_precision

    @property
    def rerun_words(self) -> str:
        """Why it does not stand alone."""
        labels = ", ".join(rerun.label for rerun in self.needs_higher_precision)
        return (
            f"critical labels ({labels}) need frames near their thresholds to be run again at a "
            "higher precision, which is not done here"
        )

    def shortfalls(self) -> list[str]:
        """Measures below their limits, in words; a measure that is missing or NaN is below."""
        limits, spread = self.thresholds, self.centred_cosine
        found = [
            ("label decisions that stayed", self.decisions, limits.decisions),
            ("shown labels that both engines show", self.shown, limits.shown),
            ("frames whose best label stayed", self.top1, limits.top1),
            (f"overlap of the best {limits.k} labels", self.topk, limits.topk),
            ("mean centred cosine", None if spread is None else spread.mean, limits.centred_mean),
            (
                "first percentile of the centred cosine",
                None if spread is None else spread.p1,
                limits.centred_p1,
            ),
        ]
        # Written so that NaN is below.
        return [
            f"{what}: {'not measured' if value is None else f'{value:.5f}'}, needed {limit}"
            for what, value, limit in found
            if value is None or not value >= limit
        ]

    def require_consistent(self) -> None:
        """Refuse a report that says what its own numbers do not.

        Raises:
            ValueError: It does.
        """
        if self.passed == bool(self.reasons):
            raise ValueError("a report passed exactly when it has no reasons")
        short = self.shortfalls()
        if self.frames < self.thresholds.min_frames:
            short.append(f"{self.frames} frames, needed {self.thresholds.min_frames}")
        if self.passed and short:
            raise ValueError(f"the report says that it passed with {'; '.join(short)}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rung of the ladder.

    Attributes:
        precision: Name of the plan.
        outcome: `passed`, `failed` (by the gate), `not_buildable` (the backend has no such plan) or
            `build_failed`.
        reasons: In words; empty when it passed.
    """

    precision: str
    outcome: Outcome
    reasons: tuple[str, ...] = ()
