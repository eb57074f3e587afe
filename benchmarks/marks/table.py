"""The tables of docs/marks.md from results/marks-null.json."""

from __future__ import annotations

from typing import Any

__all__ = ["marks_table"]


def marks_table(document: dict[str, Any]) -> str:
    """Innocent codes beyond the bound by family, whole traces of nobody's copy, and power."""
    levels = [level["log10_bound"] for level in document["null"][0]["levels"]]
    lines = [
        f"| soft bits | {' | '.join(f'1e{level}' for level in levels)} | least bound seen |",
        f"|---|{'---:|' * (len(levels) + 1)}",
    ]
    for family in document["null"]:
        cells = " | ".join(f"{level['observed_over_bound']:.2f}" for level in family["levels"])
        lines.append(f"| {family['family']} | {cells} | 10^{family['lowest_log10_bound']:.1f} |")
    protocol, traces = document["protocol"], document["traces"]
    below = ", ".join(f"{n} at or below {name}" for name, n in traces["at_or_below"].items())
    frames = [point["frames"] for point in document["power"][0]["points"]]
    lines += [
        "",
        "Observed over bound: 1 is exact, above 1 would be a bound that is broken. "
        f"{protocol['suspects']} suspects of each kind against {protocol['codes']:,} codes of "
        "nobody; where 10 or 100 codes are expected, a few come by chance.",
        "",
        f"Whole traces of unmarked footage ({traces['traces']:,}, each {traces['rows']:,} rows x "
        f"{traces['windows']} windows x {traces['views']} views): adjusted p {below}; the least "
        f"was 10^{traces['lowest_log10_p_adjusted']:.1f}.",
        "",
        f"Share of marked copies that are named among {protocol['power_rows']:,} at an adjusted p "
        f"of {protocol['identified']:g}, 64 bits, {protocol['copies']:,} copies a cell:",
        "",
        f"| bits of a frame that are wrong | {' | '.join(f'{n} pooled' for n in frames)} |",
        f"|---|{'---:|' * len(frames)}",
    ]
    for curve in document["power"]:
        cells = " | ".join(f"{point['named']:.2f}" for point in curve["points"])
        lines.append(f"| {curve['frame_error_rate']:.0%} | {cells} |")
    matching, machine = document["matching"], document["machine"]
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    lines += [
        "",
        f"One soft vector against {matching['rows']:,} codes of {matching['bits']} bits: "
        f"{1000 * matching['median_cpu_s']:.0f} ms of CPU time; by the clock "
        f"{1000 * matching['median_s']:.0f} ms (median) and {1000 * matching['slowest_s']:.0f} ms "
        f"(slowest) under a load of {matching['load']}, on one of {machine['cores']} cores "
        f"of {machine['cpu']}, with {stack}.",
    ]
    return "\n".join(lines)
