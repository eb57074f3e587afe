"""What a clip's measurements say beside each other: costs, ratios, and which aims are met."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from benchmarks.decode.contenders import CHILD, EXACT, PEERS

__all__ = ["aims", "ratios", "settle"]

# Below half of what it takes to start, what is left of a command's time is mostly noise.
_TELLS_FROM = 0.5
_CHILD_FROM_S = 20.0


def settle(runs: list[dict[str, Any]], frames: int) -> dict[str, Any]:
    """The least of the repeats, and how far they lie apart.

    Args:
        runs: The worker's answers.
        frames: Pictures that come of one run.
    """
    costs = [run["cpu_s"] for run in runs]
    start_up = min(run["start_up_s"] for run in runs)
    found = {
        "cpu_ms": round(1000 * min(costs), 3),
        "cpu_ms_per_frame": round(1000 * min(costs) / frames, 3),
        "spread": round(median(costs) / min(costs) - 1, 3) if min(costs) else None,
        "repeats_cpu_ms": [round(1000 * cost, 3) for cost in costs],
    }
    if start_up:
        found["start_up_cpu_ms"] = round(1000 * start_up, 3)
        found["lost_in_start_up"] = min(costs) < _TELLS_FROM * start_up
    return found


def ratios(systems: dict[str, Any]) -> dict[str, Any]:
    """Ours over theirs and ours over ours, in CPU time of the whole clip."""
    found: dict[str, Any] = {}
    cost = {name: row["cpu_ms"] for name, row in systems.items() if "cpu_ms" in row}
    if EXACT not in cost:
        return found
    rivals = [
        name
        for name in PEERS
        if name in cost and systems[name]["exact"] and not systems[name].get("lost_in_start_up")
    ]
    if rivals:
        best = min(rivals, key=lambda name: cost[name])
        found["best_exact_peer"] = best
        found["exact / best exact peer"] = round(cost[EXACT] / cost[best], 3)
        if "fast" in cost:
            found["fast / best exact peer"] = round(cost["fast"] / cost[best], 3)
    for name in ("reference", "fast", "keyframe", "keyframe+fill", "scene", CHILD):
        if name in cost:
            found[f"{name} / exact"] = round(cost[name] / cost[EXACT], 3)
    return found


def aims(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """What was aimed at, what came of it, and where it is missed.

    Args:
        cases: Rows with `ratios`.
    """
    found = {}
    exact = _each(cases, "exact / best exact peer", lambda case: True)
    found["exact <= 1.0x the best exact peer on every clip"] = _verdict(exact, 1.0, worst=True)
    sparse = _each(
        cases,
        "exact / best exact peer",
        lambda case: case["every_s"] == 5 and case["seekable"],
    )
    found["exact <= 0.75x by geometric mean, 1 frame per 5 s, keyframes to seek to"] = _verdict(
        sparse, 0.75, worst=False
    )
    ordered = [case for case in cases if case["b_frames"] and case["asked"] > 1]
    fast = _each(ordered, "fast / exact", lambda case: True)
    found["fast <= 0.5x our exact where there are B-frames"] = _verdict(fast, 0.5, worst=True)
    peer = _each(ordered, "fast / best exact peer", lambda case: True)
    found["fast <= 0.5x the best exact peer where there are B-frames"] = _verdict(
        peer, 0.5, worst=True
    )
    child = _each(cases, f"{CHILD} / exact", lambda case: case["seconds"] >= _CHILD_FROM_S)
    found["a child costs <= 3 % more, clips of 20 s and longer"] = _verdict(child, 1.03, worst=True)
    return found


def _each(cases: list[dict[str, Any]], ratio: str, taken: Any) -> dict[str, float]:
    return {
        f"{case['clip']}, {case['every_s']:g} s": case["ratios"][ratio]
        for case in cases
        if ratio in case["ratios"] and taken(case)
    }


def _verdict(found: dict[str, float], most: float, *, worst: bool) -> dict[str, Any]:
    if not found:
        return {"met": None, "cases": 0}
    mean = math.exp(sum(math.log(value) for value in found.values()) / len(found))
    return {
        "met": (max(found.values()) if worst else mean) <= most,
        "geometric_mean": round(mean, 3),
        "largest": max(found.values()),
        "cases": len(found),
        "missed": {name: value for name, value in found.items() if value > most},
    }
