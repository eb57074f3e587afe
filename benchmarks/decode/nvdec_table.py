"""The tables of results/decode-h200.json. It runs no decoder."""

from __future__ import annotations

from typing import Any

__all__ = ["nvdec_table"]

_KINDS = {
    "pyav": "PyAV, CPU",
    "nvdec": "NVDEC, frames to the host",
    "nvdec-device": "NVDEC, frames left on the GPU",
    "nvdec-host-engine": "NVDEC, through the host, then products on the GPU",
    "nvdec-device-engine": "NVDEC, on the GPU all the way, then the same products",
}


def nvdec_table(document: dict[str, Any]) -> str:
    """The document as Markdown: whether it is right, then rates, then times."""
    lines = [_verdict(document), "", *_rates(document), ""]
    if document["sessions"]:
        lines += ["| a session | ms |", "|---|---:|"]
        lines += [f"| {label} | {ms:.1f} |" for label, ms in document["sessions"].items()]
        lines.append("")
    if document["parts"]:
        clips = list(document["parts"])
        labels = list(document["parts"][clips[0]])
        lines += [f"| ms of one clip, one stream | {' | '.join(clips)} |"]
        lines += [f"|---|{'---:|' * len(clips)}"]
        for label in labels:
            cells = " | ".join(f"{document['parts'][clip][label]:.2f}" for clip in clips)
            lines.append(f"| {label} | {cells} |")
        lines.append("")
    return "\n".join([*lines, _footing(document)])


def _verdict(document: dict[str, Any]) -> str:
    tested, outcomes = document["self_test"], document["truth"]
    words = []
    if tested is None:
        words.append("The self-test was not run.")
    elif tested["failure"] is None:
        words.append(f"The self-test passed on {tested['clips']} clips.")
    else:
        words.append(f"**The self-test did not pass: {tested['failure']}.**")
    kinds = [outcome.partition(":")[0] for outcome in outcomes.values()]
    if kinds:
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("right", "refuses", "wrong"))
        words.append(f"Of {len(kinds)} clips whose truth is known: {counts}.")
    wrong = [f"{name} ({how})" for name, how in outcomes.items() if how.startswith("wrong")]
    if wrong:
        words.append(f"**NOT VALID for such clips: {'; '.join(wrong)}.**")
    for clip, error in document["agreement"].items():
        if "failed" in error:
            words.append(f"**{clip} differs from PyAV: {error['failed']}.**")
        else:
            words.append(f"{clip}: {error['mean']} levels from PyAV (p99 {error['p99']:g}).")
    return " ".join(words)


def _rates(document: dict[str, Any]) -> list[str]:
    lines = [
        "| clip | decoder | streams | frames/s at 1 fps | pictures/s | CPU ms / frame "
        "| engines busy | share of a figure |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in document["rows"]:
        start = (
            f"| {row['clip']} | {_KINDS[row['kind']]} | {row['streams']} {row['where']} "
            if row["streams"] != 1
            else f"| {row['clip']} | {_KINDS[row['kind']]} | 1 "
        )
        if "failed" in row:
            lines.append(f"{start}| {row['failed']} |  |  |  |  |")
            continue
        busy = row.get("watched", {}).get("decoder_percent")
        share, of = row.get("share"), row.get("share_of", "")
        lines.append(
            f"{start}| {row['frames_per_s']:,.0f} | {row['pictures_per_s']:,.0f} "
            f"| {row['cpu_ms_per_frame']:.2f} | {'' if busy is None else f'{busy:.0f}%'} "
            f"| {'' if share is None else f'{share:.0%} of {of}'} |"
        )
    return lines


def _footing(document: dict[str, Any]) -> str:
    machine, vendor = document["machine"], document["vendor"]
    gpu = machine.get("gpu")
    name = "no GPU" if gpu is None else f"{gpu['name']} (driver {gpu['driver']})"
    clips = "; ".join(
        f"{c['name']} {c['seconds']:g} s, {c['pictures']} pictures, {c['mbit_s']:g} Mbit/s"
        for c in document["clips"]
    )
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    lines = [
        f"Measured on {name}, {machine['cpu']}, {machine['cores']} cores, with {stack}. "
        f"Clips: {clips}.",
    ]
    if vendor["figures"]:
        figures = ", ".join(f"{clip} {value:,.0f}" for clip, value in vendor["figures"].items())
        lines.append(f"The vendor's figure, scaled to this GPU: {figures} pictures/s.")
    else:
        lines.append("No figure of the vendor fits this GPU and these clips.")
    for name, why in document["failed"].items():
        lines.append(f"Failed: {name}: {why}.")
    if document["skipped"]:
        lines.append(f"Out of time, not measured: {'; '.join(document['skipped'])}.")
    return " ".join(lines)
