"""The gate of extractors: what may not change is what a person is accused by.

Reference and candidate read the same marked, re-encoded frames, whose bits are known. It knows
engines by their protocol alone, and nothing of packages, embedders or keys.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from engines.gate.mark_limits import MarkLimits
from engines.gate.mark_report import MarkCase, MarkReport
from engines.gate.running import (
    embed_frames,
    in_every_bucket,
    require_comparable,
    require_frames,
    shares_of,
)
from engines.precision.frameset import FrameSet
from reelsight.engine.protocol import Engine
from reelsight.errors import ConfigError, EngineError
from reelsight.marks.bound import chernoff_log10
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["MarkTruth", "run_mark_gate"]

Floats = npt.NDArray[np.float32]
_WORST = 5
# Below that a reference reads so little that a candidate which reads nothing would hardly differ.
_LEAST_READ = 0.75
# As soft bits are limited where clips are traced (`Marking.clip_at`).
_CLIP_AT = 4.0


@dataclass(frozen=True, eq=False)
class MarkTruth:
    """What is marked in a frame set.

    Attributes:
        codes: uint8 [n, bits], 0 and 1; rows of unmarked frames say nothing.
        marked: bool [n].
        cases: By frame, the clip and what was done to it; frames of a case carry one code or none.

    Raises:
        ConfigError: `gate.bad_marks`: lengths differ, or a case is both marked and unmarked, or of
            two codes.
    """

    codes: npt.NDArray[np.uint8]
    marked: npt.NDArray[np.bool_]
    cases: tuple[str, ...]

    def __post_init__(self) -> None:
        if not len(self.codes) == len(self.marked) == len(self.cases):
            raise _bad(
                f"{len(self.codes)} codes, {len(self.marked)} marks and {len(self.cases)} cases"
            )
        for name, rows in self.rows_of.items():
            if len(set(self.marked[rows])) > 1 or (self.codes[rows] != self.codes[rows[0]]).any():
                raise _bad(f"the frames of {name!r} do not carry the same")

    @cached_property
    def rows_of(self) -> dict[str, npt.NDArray[np.intp]]:
        """Rows of every case, by its name."""
        names = np.asarray(self.cases)
        return {name: np.flatnonzero(names == name) for name in dict.fromkeys(self.cases)}

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) over codes, marks and cases."""
        digest = hashlib.sha256(repr((self.codes.shape, self.cases)).encode())
        digest.update(np.ascontiguousarray(self.codes).data)
        digest.update(np.ascontiguousarray(self.marked).data)
        return digest.hexdigest()


def run_mark_gate(
    reference: Engine,
    candidate: Engine,
    frames: FrameSet,
    truth: MarkTruth,
    limits: MarkLimits,
    *,
    frames_words: str = "",
    reference_rows: Floats | None = None,
) -> MarkReport:
    """Judge an extractor.

    Args:
        reference: The pair's own extractor in FP32, which counts as right.
        candidate: An extractor of the same pair; each of its buckets runs an equal share.
        frames: Marked and unmarked frames after encoders.
        truth: What is marked in them.
        limits: The limits.
        frames_words: What the frames are, for people.
        reference_rows: float32 [n, dim], what `embed_frames(reference, frames.frames)` gave before.

    Raises:
        ConfigError: The comparison would say nothing: `gate.too_few_frames`, `gate.bad_frames`,
            `gate.bad_marks`, `gate.other_model`, or `gate.unreadable_marks` where the reference
            itself does not read them.
        EngineError: The reference is itself broken (`gate.bad_reference`), or a device failed.
    """
    require_comparable(reference.spec, candidate.spec)
    require_frames(frames, candidate.spec, limits.min_frames)
    _require_truth(truth, len(frames), candidate.spec)
    before = embed_frames(reference, frames.frames) if reference_rows is None else reference_rows
    _require_telling(before, truth)
    after = in_every_bucket(candidate, frames.frames)
    spec = reference.spec
    report = MarkReport(
        passed=False,
        reasons=(),
        engine=candidate.spec.hash,
        reference=spec.hash,
        reference_words=f"{spec.backend} {spec.backend_version} {spec.precision}",
        frames=len(before),
        frames_sha256=frames.sha256,
        frames_words=frames_words,
        marks_sha256=truth.hash,
        thresholds=limits,
    )
    return _judged(report, before, after, truth, candidate.spec)


def _judged(
    report: MarkReport, before: Floats, after: Floats, truth: MarkTruth, spec: EngineSpec
) -> MarkReport:
    broken = np.asarray((~np.isfinite(after)).any(axis=1))
    if broken.any():
        words = f"{int(broken.sum())} of {len(after)} frames came out NaN or infinite"
        return replace(report, reasons=(words,))
    cases = [_case(name, rows, before, after, truth) for name, rows in _marked_cases(truth)]
    worst = sorted(cases, key=lambda case: -case.lost)
    shown = [c for i, c in enumerate(worst) if i < _WORST or (c.named_before > c.named_after)]
    lost_p = [c.log10_p_after - c.log10_p_before for c in cases if c.named_before]
    alike = _cosine(before[:, :-1], after[:, :-1])
    measured = replace(
        report,
        bits_before=_right(before, truth),
        bits_after=_right(after, truth),
        presence=float(((before[:, -1] > 0) == (after[:, -1] > 0)).mean()),
        soft=float(alike[truth.marked].mean()),
        log10_p=max(0.0, *lost_p) if lost_p else 0.0,
        cases=len(cases),
        named_before=sum(case.named_before for case in cases),
        named_after=sum(case.named_after for case in cases),
        worst_cases=tuple(shown),
    )
    reasons = measured.shortfalls()
    # One bad bucket of several hardly moves the mean of all.
    for bucket, share in shares_of(spec, len(before)).items():
        rows = share[truth.marked[share]]
        mean = float(alike[rows].mean()) if len(rows) else 1.0
        if not mean >= report.thresholds.soft:
            limit = report.thresholds.soft
            reasons.append(
                f"mean cosine of soft bits in batches of {bucket}: {mean:.5f}, needed {limit}"
            )
    return replace(measured, passed=not reasons, reasons=tuple(reasons))


def _marked_cases(truth: MarkTruth) -> list[tuple[str, npt.NDArray[np.intp]]]:
    return [(name, rows) for name, rows in truth.rows_of.items() if truth.marked[rows[0]]]


def _case(
    name: str, rows: npt.NDArray[np.intp], before: Floats, after: Floats, truth: MarkTruth
) -> MarkCase:
    code = truth.codes[rows[0]] > 0
    shares = [float(((part[rows, :-1] > 0) == code).mean()) for part in (before, after)]
    fits = [_log10_p(part[rows, :-1], code) for part in (before, after)]
    return MarkCase(name, len(rows), shares[0], shares[1], fits[0], fits[1])


def _log10_p(soft: Floats, code: npt.NDArray[np.bool_]) -> float:
    """What the pooled frames of a case show of its code."""
    middle = float(np.median(np.abs(soft)))
    limit = _CLIP_AT * middle if middle > 0 else np.inf
    pooled = np.clip(soft.astype(np.float64), -limit, limit).sum(axis=0)
    return chernoff_log10(pooled, float(np.where(code, pooled, -pooled).sum()))


def _right(rows: Floats, truth: MarkTruth) -> float:
    """Share of right bits over the marked frames."""
    right = (rows[truth.marked, :-1] > 0) == (truth.codes[truth.marked] > 0)
    return float(right.mean())


def _cosine(before: Floats, after: Floats) -> npt.NDArray[np.float64]:
    a, b = before.astype(np.float64), after.astype(np.float64)
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(axis=1) / np.maximum(sizes, 1e-12))


def _require_truth(truth: MarkTruth, frames: int, spec: EngineSpec) -> None:
    if len(truth.codes) != frames or truth.codes.shape[1:] != (spec.dim - 1,):
        raise _bad(
            f"marks of {truth.codes.shape} for {frames} frames and {spec.dim - 1} bits",
        )
    if not truth.marked.any() or truth.marked.all():
        raise _bad("the frames are all marked, or none of them is")


def _require_telling(rows: Floats, truth: MarkTruth) -> None:
    if not np.isfinite(rows).all():
        raise EngineError(
            "the reference extractor gave NaN or infinity",
            code="gate.bad_reference",
            hint="Export the pair again.",
        )
    read = _right(rows, truth)
    if read < _LEAST_READ:
        raise ConfigError(
            f"the pair reads {read:.1%} of its own bits in these frames: a comparison would say "
            "nothing",
            code="gate.unreadable_marks",
            hint="Give clips with texture, or mark them more strongly (marks.strength_db).",
        )


def _bad(why: str) -> ConfigError:
    return ConfigError(why, code="gate.bad_marks", hint="Make the gate's frames again.")
