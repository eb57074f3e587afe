"""MarkReport: what the gate of extractors saw and what it decided, in numbers and in words.

A value that a manifest carries. It measures nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from engines.gate.mark_limits import MarkLimits

__all__ = ["NAMED_LOG10_P", "MarkCase", "MarkReport"]

NAMED_LOG10_P = -12.0
"""One in a million after a million rows were compared: what names a copy in a ledger so long."""


@dataclass(frozen=True, slots=True)
class MarkCase:
    """One marked clip after one encoder.

    Attributes:
        name: Of the clip and of what was done to it.
        frames: How many were read.
        before, after: Share of right bits over the frames, of the reference and of the candidate.
        log10_p_before, log10_p_after: Of the pooled frames: the bound on so good a fit by chance.
    """

    name: str
    frames: int
    before: float
    after: float
    log10_p_before: float
    log10_p_after: float

    @property
    def lost(self) -> float:
        """Bit accuracy that was lost; below 0 where the candidate reads better."""
        return self.before - self.after

    @property
    def named_before(self) -> bool:
        """Whether the reference names the copy."""
        return self.log10_p_before <= NAMED_LOG10_P

    @property
    def named_after(self) -> bool:
        """Whether the candidate names the copy."""
        return self.log10_p_after <= NAMED_LOG10_P


@dataclass(frozen=True, slots=True)
class MarkReport:
    """One run of the gate of extractors.

    Attributes:
        passed: Whether the engine may be published.
        reasons: Why not, one sentence each; empty when it passed.
        engine: Hash of the spec of the engine that was judged.
        reference: Hash of the spec of the engine that it was compared with.
        reference_words: That engine for people: backend, version and precision.
        frames: Number of frames.
        frames_sha256: Of their content.
        frames_words: What the frames are, for people.
        marks_sha256: Of what is marked in them: codes and cases.
        thresholds: The limits that were used.
        bits_before, bits_after: Share of right bits over all marked frames; None, as the measures
            below, when outputs were not finite.
        presence: Share of frames of which marked or unmarked was decided as before.
        soft: Mean cosine between the soft bits of marked frames.
        log10_p: Most decades that a case lost which the reference names; 0 where none did.
        cases: Marked cases, and how many of them reference and candidate name.
        named_before, named_after: How many cases name the copy.
        worst_cases: Cases that lost most bits, worst first, and every one that is named no longer.
    """

    passed: bool
    reasons: tuple[str, ...]
    engine: str
    reference: str
    reference_words: str
    frames: int
    frames_sha256: str
    frames_words: str
    marks_sha256: str
    thresholds: MarkLimits
    bits_before: float | None = None
    bits_after: float | None = None
    presence: float | None = None
    soft: float | None = None
    log10_p: float | None = None
    cases: int = 0
    named_before: int = 0
    named_after: int = 0
    worst_cases: tuple[MarkCase, ...] = ()

    @property
    def stands_alone(self) -> bool:
        """Whether it may be served; no frame is ever read twice."""
        return self.passed

    @property
    def rerun_words(self) -> str:
        """Why it does not stand alone: it always does."""
        return ""

    @property
    def bits_lost(self) -> float | None:
        """Bit accuracy of marked frames that was lost."""
        if self.bits_before is None or self.bits_after is None:
            return None
        return self.bits_before - self.bits_after

    def shortfalls(self) -> list[str]:
        """Measures beyond their limits, in words; one that is missing or NaN is beyond."""
        limits = self.thresholds
        most = [
            ("bit accuracy that marked frames lost", self.bits_lost, limits.bits),
            ("decades of p that a named case lost", self.log10_p, limits.log10_p),
        ]
        least = [
            ("frames whose presence was decided as before", self.presence, limits.presence),
            ("mean cosine of soft bits", self.soft, limits.soft),
        ]
        # Written so that NaN is beyond.
        found = [
            f"{what}: {'not measured' if value is None else f'{value:.5f}'}, allowed {limit}"
            for what, value, limit in most
            if value is None or not value <= limit
        ]
        found += [
            f"{what}: {'not measured' if value is None else f'{value:.5f}'}, needed {limit}"
            for what, value, limit in least
            if value is None or not value >= limit
        ]
        for case in self.worst_cases:
            if not case.lost <= limits.case_bits:
                found.append(
                    f"{case.name}: bit accuracy {case.before:.4f} became {case.after:.4f}, "
                    f"allowed to lose {limits.case_bits}"
                )
            if case.named_before and not case.named_after:
                found.append(
                    f"{case.name}: the copy is named no longer, p 10^{case.log10_p_before:.1f} "
                    f"became 10^{case.log10_p_after:.1f}"
                )
        return found

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
        if not self.worst_cases or self.cases < 1:
            short.append("no marked case")
        if self.passed and short:
            raise ValueError(f"the report says that it passed with {'; '.join(short)}")
