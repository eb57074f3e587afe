"""The gate: run the same frames through a reference and a candidate and judge the difference.

It knows engines by their protocol alone, and nothing of packages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from engines.gate.measures import agreement_of_shown, centred_cosine, margins, topk_overlap
from engines.gate.report import GateReport, LabelAgreement, Rerun, Spread
from engines.gate.running import (
    embed_frames,
    in_every_bucket,
    require_comparable,
    require_frames,
    shares_of,
)
from engines.gate.thresholds import Thresholds
from engines.precision.frameset import FrameSet
from reelsight.engine.protocol import Engine
from reelsight.errors import ConfigError, EngineError
from reelsight.nouns.label_bank import LabelBank

__all__ = ["embed_frames", "run_gate"]

Floats = npt.NDArray[np.float32]
_WORST = 5
# Rows of unit length whose centred part is shorter than this are the same picture to the model:
# their centred cosine would be rounding noise.
_ALIKE = 1e-3


@dataclass(frozen=True, slots=True)
class _Labels:
    """Margins of both engines, float64 [n, L], and which labels the bank calls critical."""

    names: tuple[str, ...]
    critical: npt.NDArray[np.bool_]
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]

    @property
    def changed(self) -> npt.NDArray[np.bool_]:
        """Decisions that are not what they were, bool [n, L]."""
        changed: npt.NDArray[np.bool_] = (self.before >= 0) != (self.after >= 0)
        return changed


def run_gate(
    reference: Engine,
    candidate: Engine,
    frames: FrameSet,
    bank: LabelBank,
    thresholds: Thresholds,
    *,
    frames_words: str = "",
    reference_rows: Floats | None = None,
) -> GateReport:
    """Judge a candidate.

    Args:
        reference: The engine whose answers count as right: the FP32 master.
        candidate: An engine of the same model; each of its buckets runs an equal share.
        frames: What both run; real frames, with degraded ones among them.
        bank: The labels whose decisions must stay.
        thresholds: The limits.
        frames_words: What the frames are, for people.
        reference_rows: float32 [n, dim], what `embed_frames(reference, frames.frames)` gave before.

    Raises:
        ConfigError: The comparison would say nothing: too few frames (`gate.too_few_frames`), of
            another size (`gate.bad_frames`) or all alike (`gate.frames_alike`), or a reference of
            another model (`gate.other_model`).
        EngineError: The reference is itself broken (`gate.bad_reference`), or a device failed.
        BankError: The bank belongs to another model.
    """
    require_comparable(reference.spec, candidate.spec)
    require_frames(frames, candidate.spec, thresholds.min_frames)
    bank.require_model(candidate.spec.model, candidate.spec.model_hash)
    before = embed_frames(reference, frames.frames) if reference_rows is None else reference_rows
    _require_telling(before)
    shares = shares_of(candidate.spec, len(frames))
    after = in_every_bucket(candidate, frames.frames)
    spec = reference.spec
    report = GateReport(
        passed=False,
        reasons=(),
        engine=candidate.spec.hash,
        reference=spec.hash,
        reference_words=f"{spec.backend} {spec.backend_version} {spec.precision}",
        frames=len(before),
        frames_sha256=frames.sha256,
        frames_words=frames_words,
        bank=bank.name,
        bank_hash=bank.hash,
        thresholds=thresholds,
    )
    return _judged(report, before, after, bank, shares)


def _judged(
    report: GateReport,
    before: Floats,
    after: Floats,
    bank: LabelBank,
    shares: Mapping[int, npt.NDArray[np.intp]],
) -> GateReport:
    broken = np.asarray((~np.isfinite(after)).any(axis=1))
    if broken.any():
        sizes = ", ".join(str(bucket) for bucket, share in shares.items() if broken[share].any())
        words = (
            f"{int(broken.sum())} of {len(after)} frames came out NaN or infinite, in batches of "
            f"{sizes}"
        )
        return replace(report, reasons=(words,))
    cosine = centred_cosine(before, after)
    spread = Spread(float(cosine.mean()), float(np.percentile(cosine, 1)), float(cosine.min()))
    labels = _Labels(
        tuple(label.name for label in bank.labels),
        np.array([label.critical for label in bank.labels], dtype=np.bool_),
        margins(before, bank),
        margins(after, bank),
    )
    k = min(report.thresholds.k, len(bank))
    measured = replace(
        report,
        centred_cosine=spread,
        decisions=float(1 - labels.changed.mean()),
        shown=agreement_of_shown(labels.before >= 0, labels.after >= 0),
        top1=topk_overlap(labels.before, labels.after, 1),
        topk=topk_overlap(labels.before, labels.after, k),
        worst_labels=_worst(labels),
    )
    reruns, refusals = _critical(labels, report.thresholds)
    by_bucket = {n: float(cosine[share].mean()) for n, share in shares.items() if len(share)}
    reasons = (*_reasons(measured, by_bucket), *refusals)
    return replace(
        measured, passed=not reasons, reasons=reasons, needs_higher_precision=tuple(reruns)
    )


def _reasons(report: GateReport, by_bucket: Mapping[int, float]) -> list[str]:
    limit = report.thresholds.centred_mean
    reasons = report.shortfalls()
    # One bad bucket of several hardly moves the mean of all.
    reasons += [
        f"mean centred cosine in batches of {bucket}: {mean:.5f}, needed {limit}"
        for bucket, mean in by_bucket.items()
        if not mean >= limit
    ]
    if reasons and report.worst_labels:
        worst = ", ".join(
            f"{w.label} ({w.changed} of {report.frames} frames)"
            for w in report.worst_labels[:3]
            if w.changed
        )
        reasons += [f"labels that changed most: {worst}"] if worst else []
    return reasons


def _worst(labels: _Labels) -> tuple[LabelAgreement, ...]:
    changed = labels.changed.sum(axis=0)
    order = [int(i) for i in np.argsort(-changed, kind="stable")]
    kept = [i for at, i in enumerate(order) if at < _WORST or labels.critical[i]]
    frames = len(labels.before)
    return tuple(
        LabelAgreement(
            labels.names[i],
            float(1 - changed[i] / frames),
            int(changed[i]),
            bool(labels.critical[i]),
        )
        for i in kept
    )


def _critical(labels: _Labels, limits: Thresholds) -> tuple[list[Rerun], list[str]]:
    """Critical labels that change too often: to be re-run near their thresholds, or a refusal.

    A decision can only change where the candidate's margin is smaller than its error, so frames
    within the largest error that was seen hold every change.
    """
    changed = labels.changed.mean(axis=0)
    over = [int(i) for i in np.flatnonzero(labels.critical & (changed > limits.critical_changed))]
    error = np.abs(labels.after - labels.before).max(axis=0)
    near = np.abs(labels.after) <= error
    if over and float(near[:, over].any(axis=1).mean()) > limits.rerun_share:
        return [], [
            f"critical label {labels.names[i]} was decided otherwise in {changed[i]:.2%} of the "
            f"frames (allowed {limits.critical_changed:.2%}), and the {near[:, i].mean():.0%} of "
            f"frames near its threshold are too many to run again"
            for i in over
        ]
    return [Rerun(labels.names[i], float(error[i]), float(near[:, i].mean())) for i in over], []


def _require_telling(reference: Floats) -> None:
    if not np.isfinite(reference).all():
        raise EngineError(
            "the reference engine gave NaN or infinity",
            code="gate.bad_reference",
            hint="Check the model with `reelsight models --verify`.",
        )
    spread = np.linalg.norm(reference - reference.mean(axis=0), axis=1)
    if np.median(spread) < _ALIKE:
        raise ConfigError(
            "the frames are all alike to the model: a comparison would say nothing",
            code="gate.frames_alike",
            hint="Give frames of different clips.",
        )
