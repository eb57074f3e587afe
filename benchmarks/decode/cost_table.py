"""The tables of docs/benchmarks.md from results/decode-cpu.json. It runs no decoder."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["cost_table"]

_PEERS = ("decord", "torchcodec exact", "torchcodec approximate", "OpenCV", "ffmpeg")
_POLICIES = ("exact", "reference", "fast", "keyframe", "keyframe+fill", "scene")
_CHILD = "exact, in a child"


def cost_table(document: dict[str, Any]) -> str:
    """The document as Markdown: peers at each distance of times, policies, aims, machine."""
    clips = {clip["name"]: clip for clip in document["clips"]}
    lines: list[str] = []
    for every_s in dict.fromkeys(case["every_s"] for case in document["cases"]):
        cases = [case for case in document["cases"] if case["every_s"] == every_s]
        every = "1 frame a second" if every_s == 1 else f"1 frame in {every_s:g} seconds"
        lines += [f"CPU ms per frame, {every}:", "", *_against_peers(cases, clips), ""]
        ours = f"Our policies, {every}: ms per frame x frames, largest timing error; and the child:"
        lines += [ours, "", *_policies(cases), ""]
    lines += [*_refusals(document), ""]
    return "\n".join([*lines, *_aims(document["aims"]), "", _measured(document)])


def _refusals(document: dict[str, Any]) -> list[str]:
    """Who gives no frame of which clip, and why, each once."""
    told: dict[str, None] = {}
    for clip in document["clips"]:
        if "refused" in clip:
            told[f"{clip['name']}, left out: {clip['refused']}"] = None
    for case in document["cases"]:
        for name, row in case["systems"].items():
            if "refused" in row and name in ("exact", *_PEERS):
                # Without the numbers behind a failed check, which differ from run to run.
                why = re.sub(r" \(-?\d.*", "", row["refused"])
                told[f"{case['clip']}, {name}: {why}"] = None
    return ["Refused:", "", *(f"- {line}" for line in told)] if told else []


def _against_peers(cases: list[dict[str, Any]], clips: dict[str, Any]) -> list[str]:
    names = [n for n in _PEERS if any(n in case["systems"] for case in cases)]
    lines = [
        f"| clip | frames | **exact** | {' | '.join(names)} | exact / best exact peer |",
        f"|---|---:|{'---:|' * (len(names) + 2)}",
    ]
    for case in cases:
        clip, ratios = clips[case["clip"]], case["ratios"]
        cells = [_cell(case["systems"][name], case) for name in ("exact", *names)]
        ratio = ratios.get("exact / best exact peer")
        best = "" if ratio is None else f"{ratio:.2f} ({ratios['best_exact_peer']})"
        what = f"{clip['name']}, {clip['size']} {clip['codec']}, {clip['seconds']:g} s"
        lines.append(f"| {what} | {case['asked']} | {' | '.join(cells)} | {best} |")
    return lines


def _cell(row: dict[str, Any], case: dict[str, Any]) -> str:
    if "refused" in row:
        return "refuses"
    text = "< start" if row.get("lost_in_start_up") else _ms(row)
    if not row["exact"]:
        missing = case["asked"] - row["frames"]
        off = f"{row['timing_error_s']:.2f} s off" if row["timing_error_s"] else ""
        gone = f"{missing} missing" if missing > 0 else ""
        text += f" ({', '.join(filter(None, (off, gone)))})"
    return text


def _policies(cases: list[dict[str, Any]]) -> list[str]:
    names = [n for n in _POLICIES if any(n in case["systems"] for case in cases)]
    lines = [
        f"| clip | {' | '.join(names)} | child / in-process |",
        f"|---|{'---:|' * (len(names) + 1)}",
    ]
    for case in cases:
        cells = [_policy(case["systems"].get(name)) for name in names]
        child = case["ratios"].get(f"{_CHILD} / exact")
        share = "" if child is None else f"{child:.3f}"
        lines.append(f"| {case['clip']} | {' | '.join(cells)} | {share} |")
    return lines


def _policy(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    if "refused" in row:
        return "refuses"
    text = f"{_ms(row)} x {row['frames']}"
    return text + (f", {row['timing_error_s']:.2f} s" if row.get("timing_error_s") else "")


def _ms(row: dict[str, Any]) -> str:
    cost = row["cpu_ms_per_frame"]
    return f"{cost:.2f}" if cost < 10 else f"{cost:.1f}"


def _aims(aims: dict[str, Any]) -> list[str]:
    lines = ["| aim | met | geometric mean | largest | missed on |", "|---|---|---:|---:|---|"]
    for name, aim in aims.items():
        if aim["met"] is None:
            continue
        far = {} if aim["met"] else aim["missed"]
        missed = "; ".join(f"{case}: {value:.2f}" for case, value in far.items())
        met = "yes" if aim["met"] else "no"
        lines.append(
            f"| {name} | {met} | {aim['geometric_mean']:.2f} | {aim['largest']:.2f} | {missed} |"
        )
    return lines


def _measured(document: dict[str, Any]) -> str:
    machine = document["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    absent = "".join(f" Not run: {name} ({why})." for name, why in document["absent"].items())
    return f"Measured on {where}, {document['repeat']} repeats, with {stack}.{absent}"
