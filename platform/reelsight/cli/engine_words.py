"""Manifests and gate reports in words, for the engine commands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reelsight.cli.console import print_json, show_lines

if TYPE_CHECKING:
    from engines.gate.judging import Report
    from engines.gate.mark_report import MarkReport
    from engines.package.manifest import PackageManifest
    from engines.package.registry import Registry

__all__ = ["gate_lines", "manifest_lines", "show_built"]


def gate_lines(report: Report) -> list[str]:
    """A gate report for people."""
    from engines.gate.mark_report import MarkReport

    head = (
        f"gate: {'passed' if report.passed else 'STOPPED'}, {report.frames} frames "
        f"({report.frames_words or report.frames_sha256[:12]}) against {report.reference_words}"
    )
    if isinstance(report, MarkReport):
        return [head, *_mark_lines(report), *(f"  {reason}" for reason in report.reasons)]
    lines = [f"{head}, bank {report.bank} {report.bank_hash[:12]}"]
    if report.centred_cosine is not None:
        spread = report.centred_cosine
        lines += [
            f"  decisions that stayed {report.decisions:.3%}, shown labels {report.shown:.2%}, "
            f"best label {report.top1:.2%}, best {report.thresholds.k} {report.topk:.2%}",
            f"  centred cosine: mean {spread.mean:.4f}, p1 {spread.p1:.4f}, min {spread.min:.4f}",
        ]
    changed = [w for w in report.worst_labels if w.changed]
    if changed:
        lines.append("  changed most: " + ", ".join(f"{w.label} {w.changed}" for w in changed))
    lines += [f"  {reason}" for reason in report.reasons]
    lines += [
        f"  critical label {r.label}: frames within {r.margin:.4f} of its threshold "
        f"({r.share:.1%}) need a higher precision"
        for r in report.needs_higher_precision
    ]
    return lines


def _mark_lines(report: MarkReport) -> list[str]:
    """What became of marks, for people."""
    if report.bits_before is None or report.bits_after is None:
        return []
    worst = report.worst_cases[0]
    return [
        f"  right bits of marked frames {report.bits_before:.2%} before, {report.bits_after:.2%} "
        f"after; presence decided as before {report.presence:.2%}",
        f"  cases whose copy is named: {report.named_before} of {report.cases} before, "
        f"{report.named_after} after; most p lost {report.log10_p:.2f} decades",
        f"  worst case: {worst.name}, {worst.before:.2%} became {worst.after:.2%}, "
        f"p 10^{worst.log10_p_before:.1f} became 10^{worst.log10_p_after:.1f}",
    ]


def show_built(
    as_json: bool,
    place: Registry,
    manifest: PackageManifest,
    directory: Path | None,
    published: str | None,
) -> None:
    """What a build or a gate came to, and where the package is.

    Args:
        as_json: One JSON document instead of words.
        place: Where it was or would have been published.
        manifest: The package's.
        directory: Where it stays on this node; None when it does not.
        published: Its path in the registry; None when it is not there.
    """
    if as_json:
        print_json(
            {
                "path": manifest.path,
                "precision": manifest.spec.precision,
                "refusal": manifest.refusal,
                "gate": None if manifest.gate is None else asdict(manifest.gate),
                "attempts": [asdict(attempt) for attempt in manifest.attempts],
                "benchmark": manifest.benchmark,
                "directory": None if directory is None else str(directory),
                "published": published,
                "registry": place.name,
            }
        )
        return
    lines = [f"tried {a.precision}: {a.outcome} {'; '.join(a.reasons)}" for a in manifest.attempts]
    lines += [] if manifest.gate is None else gate_lines(manifest.gate)
    lines.append(f"published in {place.name}" if published else manifest.refusal or "not published")
    show_lines(manifest.path, lines)


def manifest_lines(manifest: PackageManifest, signed_by: str | None) -> list[str]:
    """A manifest for people."""
    spec, target, gate = manifest.spec, manifest.target, manifest.gate
    device = f"{target.gpu} (SM {target.sm})" if target.sm else "CPU"
    lines = [
        f"model: {spec.model} {spec.model_hash[:12]}, image tower {manifest.master_sha256[:12]}",
        f"engine: {spec.backend} {spec.backend_version} {spec.precision}, batches {spec.buckets}",
        f"for: {device}, {target.os} {target.arch}",
        f"built: {manifest.created_at} in {manifest.build_s:.1f} s, "
        f"{sum(file.bytes for file in manifest.files) / 1e6:.1f} MB",
        f"signed by: {signed_by or 'no trusted key'}",
        *(f"tried {a.precision}: {a.outcome} {'; '.join(a.reasons)}" for a in manifest.attempts),
    ]
    lines += gate_lines(gate) if gate is not None else ["gate: was never asked"]
    if manifest.benchmark is not None:
        latency, speed = manifest.benchmark["latency_ms"], manifest.benchmark["frames_per_s"]
        lines.append(f"measured: {speed:.1f} frames/s, one frame p50 {latency['p50']:.2f} ms")
    return lines
