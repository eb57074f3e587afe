"""Figures of many requests, and the file that the three programs share."""

from __future__ import annotations

import json
import os
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.engines.machine import machine
from benchmarks.online.client import Outcome

__all__ = ["RESULTS", "facts", "medians", "percentile", "save", "summary"]

RESULTS = Path(__file__).parents[1] / "results" / "online-cpu.json"
_PACKAGES = (
    "ray",
    "fastapi",
    "uvicorn",
    "litserve",
    "onnxruntime",
    "torch",
    "open_clip_torch",
    "av",
    "pillow",
    "simplejpeg",
    "numpy",
)


def percentile(seconds: list[float], share: float) -> float | None:
    """Milliseconds by the nearest rank; None of nothing."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    return round(1000 * ranked[min(len(ranked) - 1, int(share * len(ranked)))], 1)


def summary(told: dict[str, Any], server_cpu_s: float) -> dict[str, Any]:
    """What a client's requests amount to.

    Args:
        told: By `client.what_came`.
        server_cpu_s: That the server's tree used meanwhile.
    """
    outcomes: list[Outcome] = told["outcomes"]
    good = [one.took for one in outcomes if one.status == 200]
    return {
        "requests": len(outcomes),
        "per_s": round(len(good) / told["span_s"], 2) if told["span_s"] else 0.0,
        "p50_ms": percentile(good, 0.50),
        "p99_ms": percentile(good, 0.99),
        "errors": dict(Counter(_word(one) for one in outcomes if one.status != 200)),
        "server_cpu_ms": round(1000 * server_cpu_s / max(1, len(good)), 2),
        "client_cpu_ms": round(1000 * told["cpu_s"] / max(1, len(outcomes)), 2),
    }


def medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """One summary of several: medians of numbers, the sum of requests and of errors."""
    found: dict[str, Any] = {}
    for key in rounds[0]:
        values = [one[key] for one in rounds if one[key] is not None]
        if key == "errors":
            found[key] = dict(sum((Counter(value) for value in values), Counter()))
        elif key == "requests":
            found[key] = sum(values)
        else:
            found[key] = round(median(values), 2) if values else None
    found["rounds_per_s"] = [one["per_s"] for one in rounds]
    return found


def facts() -> dict[str, Any]:
    """The machine, how busy it is before anything is asked of it, and the libraries."""
    return {
        "machine": machine("cpu") | {"load_at_start": round(os.getloadavg()[0], 2)},
        "versions": {name: known for name in _PACKAGES if (known := _version(name))},
    }


def save(path: Path, section: str, found: dict[str, Any]) -> None:
    """Put one program's findings into the file, beside the others'."""
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    document |= {"benchmark": path.stem, section: found}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _word(one: Outcome) -> str:
    return f"{one.status} {one.code}".strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
