"""The table of docs/marks.md from results/marks-h200.json."""

from __future__ import annotations

from typing import Any

__all__ = ["marks_gpu_table"]


def marks_gpu_table(document: dict[str, Any]) -> str:
    """Latency, throughput and memory of the extractor by contender."""
    found = document["contenders"]
    lines = [
        "| extractor | batch 1, p50 / p99 ms | best batch | pictures / s | device memory, MiB "
        "| build, s | cosine with FP32 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, row in found.items():
        if "failed" in row:
            continue
        memory = "" if row["memory_mib"] is None else f"{row['memory_mib']:,}"
        build = "" if row["build_s"] is None else f"{row['build_s']:.0f}"
        lines.append(
            f"| {name} | {row['p50_ms']:.2f} / {row['p99_ms']:.2f} | {row['best_batch']} "
            f"| {row['pictures_per_s']:,.0f} | {memory} | {build} | {row['agreement']:.4f} |"
        )
    base = next(iter(found.values()))
    ratios = [
        f"{name} {row['pictures_per_s'] / base['pictures_per_s']:.2f}x"
        for name, row in found.items()
        if "failed" not in row and row is not base and "failed" not in base
    ]
    if ratios:
        lines += ["", f"Pictures a second over {next(iter(found))}: {', '.join(ratios)}."]
    failed = [f"{name}: {row['failed']}" for name, row in found.items() if "failed" in row]
    if failed:
        lines += ["", f"Not measured: {'; '.join(failed)}."]
    machine, settings = document["machine"], document["settings"]
    device = machine["gpu"]["name"] if "gpu" in machine else machine["cpu"]
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    lines += [
        "",
        f"Pair {document['pair']}; measured on {device}, {settings['rounds']} rounds of "
        f"{settings['seconds']:g} s a batch, with {stack}.",
    ]
    return "\n".join(lines)
