"""The tables of results/online-h200.json."""

from __future__ import annotations

from typing import Any

__all__ = ["gpu_table"]

_STAGE_MS, _CLIP_MS = 10.0, 200.0
_REASON = 200


def gpu_table(document: dict[str, Any]) -> str:
    """The document as Markdown: many clients, then one clip, then what it was measured on."""
    loads = [row for row in document["rows"] if not row["clip"]]
    clips = [row for row in document["rows"] if row["clip"]]
    parts = []
    if loads:
        parts.append("\n".join(_loads(loads)))
    if clips:
        parts.append("\n".join(_clips(clips)))
    return "\n\n".join([*parts, *_aims(loads, clips), _footing(document)])


def _loads(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| model | door | asked | clients | images / s | requests / s | p50 / p99, ms "
        "| engine, p50 / p99, ms | engine within 10 ms | engine busy | images a batch "
        "| server, cores | a client's core, at most | errors |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        stage = row["engine"]
        cells = [
            row["model"],
            row["topology"],
            row["asked"],
            f"{row['clients']}",
            f"{row['images_per_s']:,.0f}",
            f"{row['per_s']:,.1f}",
            _pair(row["p50_ms"], row["p99_ms"]),
            _pair(stage["embed_p50_ms"], stage["embed_p99_ms"]),
            _share(stage["within_10_ms"]),
            _share(stage["busy"]),
            "-" if stage["frames_a_batch"] is None else f"{stage['frames_a_batch']:.1f}",
            f"{row['server_cores']:.1f}",
            _share(row["busiest_client"]),
            _errors(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _clips(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| model | door | one clip | requests | p50 / p99, ms | frames | decoding, p50, ms "
        "| engine, p50 / p99, ms | errors |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        stage, frames = row["engine"], row["images_a_request"]
        cells = [
            row["model"],
            row["topology"],
            row["asked"],
            f"{row['requests']}",
            _pair(row["p50_ms"], row["p99_ms"]),
            "-" if frames is None else f"{frames:g}",
            "-" if stage["decode_p50_ms"] is None else f"{stage['decode_p50_ms']:,.1f}",
            _pair(stage["embed_p50_ms"], stage["embed_p99_ms"]),
            _errors(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _aims(loads: list[dict[str, Any]], clips: list[dict[str, Any]]) -> list[str]:
    lines = []
    stages = [row["engine"]["embed_p99_ms"] for row in loads]
    measured = [p99 for p99 in stages if p99 is not None]
    if measured:
        kept = sum(p99 < _STAGE_MS for p99 in measured)
        lines.append(
            f"Aim: 99 % of what asks the engine, in batches of at most 32, has its embeddings "
            f"within {_STAGE_MS:g} ms. Kept in {kept} of {len(measured)} rows."
        )
    if clips:
        told = "; ".join(
            f"{row['model']}, {row['topology']}, {row['asked']}: "
            + ("nothing answered" if row["p50_ms"] is None else _verdict(row["p50_ms"]))
            for row in clips
        )
        lines.append(f"Aim: a clip of that many frames in {_CLIP_MS:g} ms, by the median: {told}.")
    return lines


def _verdict(ms: float) -> str:
    return f"{'yes' if ms < _CLIP_MS else 'no'} ({ms:,.0f} ms)"


def _footing(document: dict[str, Any]) -> str:
    where, settings = document["machine"], document["settings"]
    gpu = where.get("gpu")
    device = f"one {gpu['name']} (driver {gpu['driver']})" if gpu else "no GPU"
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    lines = [
        f"Measured on {device}, {where['cpu']}, {where['cores']} cores, with {stack}; "
        f"{settings['seconds']:g} s a point, clients in at most {settings['processes']} processes."
    ]
    lines += [
        f"{name}: {made['engine']}, buckets {', '.join(map(str, made['buckets']))}; its gate: "
        f"{made['gate']['frames_words']}, {made['gate']['decisions']:.3%} of the decisions kept."
        for name, made in document["models"].items()
    ]
    lines += [f"{words}." for words in document["uploads"].values()]
    if document["failed"]:
        failures = "; ".join(f"{k}: {v[:_REASON]}" for k, v in document["failed"].items())
        lines.append(f"Failed: {failures}.")
    if document["skipped"]:
        lines.append(f"Out of time, not measured: {'; '.join(document['skipped'])}.")
    return " ".join(lines)


def _pair(a: float | None, b: float | None) -> str:
    return " / ".join("-" if ms is None else f"{ms:,.1f}" for ms in (a, b))


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _errors(row: dict[str, Any]) -> str:
    return "; ".join(f"{n} x {what}" for what, n in row["errors"].items()) or "0"
