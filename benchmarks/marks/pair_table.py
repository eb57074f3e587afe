"""The table of docs/marks.md from results/marks-cpu.json."""

from __future__ import annotations

from typing import Any

__all__ = ["pair_table"]


def pair_table(document: dict[str, Any]) -> str:
    """Attacks by contender for every clip, costs, and INT8 beside FP32."""
    lines: list[str] = []
    for clip in document["clips"]:
        lines += [f"{clip['kind']} clip ({clip['name']}):", "", *_clip(clip["contenders"]), ""]
    lines += [
        "Frame / pooled bit accuracy; 0.50 is chance. Bold: the copy would be named among "
        f"{document['protocol']['rows']:,} rows at an adjusted p of "
        f"{document['protocol']['identified']:g}; after `>`, pooled in the best of the views that "
        "ours looks through, all of them counted.",
        "",
        *_int8(document["int8"]),
        "",
    ]
    for name, reason in document["absent"].items():
        lines += [f"Not measured: {name}: {reason}", ""]
    machine, pair = document["machine"], document["pair"]
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    lines.append(
        f"Pair {pair['carrier']} at {pair['strength_db']:g} dB. Measured on {machine['cpu']}, "
        f"{machine['cores']} cores, with {stack}."
    )
    return "\n".join(lines)


def _clip(found: dict[str, Any]) -> list[str]:
    names = list(found)
    attacks = list(next(iter(found.values()))["attacks"])

    def row(title: str, cells: list[str]) -> str:
        return f"| {title} | {' | '.join(cells)} |"

    lines = [row("", names), f"|---|{'---:|' * len(names)}"]
    lines.append(row("bits", [str(found[n]["bits"]) for n in names]))
    lines.append(
        row(
            "PSNR dB (SSIM)", [f"{found[n]['psnr_db']:.1f} ({found[n]['ssim']:.3f})" for n in names]
        )
    )
    lines += [row(a, [_cell(found[n]["attacks"][a]) for n in names]) for a in attacks]
    lines.append(
        row(
            "embed / read, pictures a CPU second",
            [
                f"{_rate(found[n]['embed_cpu_ms'])} / {_rate(found[n]['read_cpu_ms'])}"
                for n in names
            ],
        )
    )
    return lines


def _cell(row: dict[str, Any]) -> str:
    text = f"{row['frame']:.2f} / {row['pooled']:.2f}"
    if row["searched"] > row["pooled"] + 0.005 and row["views"] > 1:
        text += f" > {row['searched']:.2f}"
    return f"**{text}**" if row["named"] else text


def _rate(cpu_ms: float) -> str:
    rate = 1000 / max(cpu_ms, 1e-3)
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2f}"


def _int8(found: dict[str, Any]) -> list[str]:
    costs, files, worst = found["costs"], found["files_mb"], found["worst"]
    lines = [
        "| extractor | bit accuracy of frames, all attacks | CPU ms a picture | MiB | file, MB |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name.upper()} | {found['frame'][name]:.4f} | {costs[name]['cpu_ms']:.2f} "
        f"| {costs[name]['mib']:.0f} | {files[name]:.1f} |"
        for name in ("fp32", "int8")
    ]
    return [
        *lines,
        "",
        f"INT8 reads {found['drop_points']:.2f} points less, at {found['speed_up']:.2f} times the "
        f"speed; worst attack: {worst['attack']}, {worst['fp32']:.4f} became {worst['int8']:.4f}. "
        f"{found['quantised_layers']} layers quantised by {found['method']} over "
        f"{found['calibration_frames']} frames of other clips.",
    ]
