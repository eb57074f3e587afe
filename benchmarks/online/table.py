"""The tables of the online benchmark, from results/online-cpu.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["online_table", "overload_table", "soak_table"]


def online_table(document: dict[str, Any]) -> str:
    """The servers beside one another."""
    found = document["compared"]
    lines = [
        "| server | asked | requests / s | p50, ms | p99, ms | server CPU ms / answer "
        "| client CPU ms / request | errors |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, kinds in found["servers"].items():
        lines += [
            f"| {name} | {kind} | {row['per_s']:,.1f} | {_ms(row['p50_ms'])} "
            f"| {_ms(row['p99_ms'])} | {row['server_cpu_ms']:.1f} | {row['client_cpu_ms']:.1f} "
            f"| {sum(row['errors'].values())} |"
            for kind, row in kinds.items()
        ]
    aims = ["", "| images, 32 at a time | requests / s | aim | p99 | requests / CPU s | met |"]
    aims.append("|---|---:|---:|---:|---:|---|")
    aims += [
        f"| {aim['ours']} over {aim['peer']} | {aim['requests_per_s']:.2f}x | {aim['aim']:g}x "
        f"| {aim['p99']:.2f}x | {aim['requests_per_cpu_s']:.2f}x | {_yes(aim['met'])} |"
        for aim in found["aims"]
    ]
    settings, uploads = found["settings"], found["uploads"]
    said = (
        f"{found['model']}; {uploads['image']}; {uploads['clip']}; {settings['threads']} threads, "
        f"{settings['rounds']} rounds of {settings['seconds']:g} s. {_where(found)}"
    )
    return "\n".join([*lines, *aims, "", said])


def overload_table(document: dict[str, Any]) -> str:
    """Three times the capacity."""
    found = document["overload"]
    kinds = found["kinds"]
    lines = ["| | " + " | ".join(f"{k} ({v['upload']})" for k, v in kinds.items()) + " |"]
    lines.append("|---|" + "---:|" * len(kinds))
    rows: dict[str, Callable[[dict[str, Any]], str]] = {
        "capacity, answers / s": lambda v: f"{v['capacity_per_s']:.1f}",
        "offered, requests / s": lambda v: f"{v['offered_per_s']:.1f}",
        "goodput, answers / s": lambda v: f"{v['goodput_per_s']:.1f} ({v['goodput_share']:.0%})",
        "p50 / p99 of answers, ms": lambda v: f"{_ms(v['good_p50_ms'])} / {_ms(v['good_p99_ms'])}",
        "rejects": lambda v: f"{v['rejects']:,}",
        "p50 / p99 of rejects, ms": lambda v: (
            f"{_ms(v['reject_p50_ms'])} / {_ms(v['reject_p99_ms'])}"
        ),
        "neither answer nor reject": lambda v: f"{v['neither']}",
        "memory at start / peak / end, MiB": lambda v: " / ".join(
            f"{v['memory_mib'][k]:,}" for k in ("start", "peak", "end")
        ),
        "recovered after, s": lambda v: (
            "not" if v["recovered_s"] is None else f"{v['recovered_s']:.1f}"
        ),
        "aims met": lambda v: "; ".join(f"{a}: {_yes(met)}" for a, met in v["aims"].items()),
    }
    for title, cell in rows.items():
        lines.append(f"| {title} | " + " | ".join(cell(v) for v in kinds.values()) + " |")
    settings = found["settings"]
    return "\n".join([*lines, "", f"{settings['seconds']:g} s of load. {_where(found)}"])


def soak_table(document: dict[str, Any]) -> str:
    """Killed replicas and swapped banks."""
    found = document["soak"]
    columns = [_soaked(one) for one in found["proxies"].values()]
    lines = ["| | " + " | ".join(f"proxy: {name}" for name in found["proxies"]) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    lines += [
        f"| {title} | " + " | ".join(column[title] for column in columns) + " |"
        for title in columns[0]
    ]
    return "\n".join([*lines, "", _where(found)])


def _soaked(found: dict[str, Any]) -> dict[str, str]:
    kills, swaps = found["kills"], found["swaps"]
    words = "; ".join(f"{n} x {what}" for what, n in kills["words"].items()) or "none"
    aims = {**kills["aims"], **{f"swaps: {k}": v for k, v in swaps["aims"].items()}}
    return {
        "replicas killed": f"{kills['kills']}",
        "two again after, s": ", ".join(
            "longer" if one is None else f"{one:g}" for one in kills["two_again_after_s"]
        ),
        "requests": f"{kills['requests']:,} at {kills['rate_per_s']:.1f} / s",
        "not answered": f"{kills['not_answered_share']:.3%} ({words})",
        "of these 429 or 503 with Retry-After": f"{kills['told_to_wait']}",
        "of these connections refused": f"{kills['connection_refused']}",
        "p50 / p99 of answers, ms": f"{_ms(kills['p50_ms'])} / {_ms(kills['p99_ms'])}",
        "banks swapped, failed": f"{swaps['swaps']}, {swaps['swaps_failed']}",
        "heard by four answers in a row, p50 / at most, s": (
            f"{swaps['heard_after_p50_s']} / {swaps['heard_after_max_s']}"
        ),
        "requests meanwhile, failed": f"{swaps['requests']:,}, {swaps['requests_failed']}",
        "answers that mix banks": f"{swaps['answers_that_mix']}",
        "aims met": "; ".join(f"{a}: {_yes(m)}" for a, m in aims.items()),
    }


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def _where(found: dict[str, Any]) -> str:
    machine = found["machine"]
    stack = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB "
        f"(load {machine['load_at_start']} at the start), with {stack}."
    )
