"""What the rounds of a model come to: medians, shares, ratios. Pure functions of JSON values."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.engines.contender import REFERENCE
from engines.gate.measures import centred_cosine

__all__ = ["agreement", "ratios", "summarise"]

Floats = npt.NDArray[np.float32]


def summarise(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every contender with the medians of its rounds beside them.

    Args:
        found: What `measure_model` returns; `failed` contenders stay as they are.

    Returns:
        By contender, more than was given: `latency_ms` (p50 and p99), `images_per_s` (by batch),
        `best` (batch and images_per_s), `spread` (of the best batch's rate over the rounds, as a
        share of the median), `pipelined` (images_per_s, and its share of the rate on the device in
        the same round), and `memory.share` (of the reference's at the same batch).
    """
    reference = found.get(REFERENCE, {}).get("memory", {}).get("mib")
    return {
        name: numbers if "failed" in numbers else numbers | _medians(numbers, reference)
        for name, numbers in found.items()
    }


def _medians(numbers: dict[str, Any], reference_mib: float | None) -> dict[str, Any]:
    rounds = numbers["rounds"]
    rates = {b: median(r["images_per_s"][b] for r in rounds) for b in rounds[0]["images_per_s"]}
    batch = max(rates, key=lambda b: rates[b])
    of_best = [r["images_per_s"][batch] for r in rounds]
    memory = numbers["memory"]
    mib = memory["mib"]
    known = mib is not None and reference_mib
    return {
        "latency_ms": _latency(rounds),
        "images_per_s": rates,
        "best": {"batch": int(batch), "images_per_s": rates[batch]},
        "spread": round((max(of_best) - min(of_best)) / rates[batch], 4),
        "pipelined": _pipelined(rounds),
        "memory": memory | {"share": round(mib / reference_mib, 4) if known else None},
    }


def _latency(rounds: list[dict[str, Any]]) -> dict[str, float] | None:
    taken = [r["latency"] for r in rounds]
    if None in taken:
        return None
    return {p: median(one[f"{p}_ms"] for one in taken) for p in ("p50", "p99")}


def _pipelined(rounds: list[dict[str, Any]]) -> dict[str, Any] | None:
    rates = [r["pipelined_images_per_s"] for r in rounds]
    if None in rates:
        return None
    on_device = [r["images_per_s"][str(r["best_batch"])] for r in rounds]
    return {
        "batch": rounds[0]["best_batch"],
        "images_per_s": median(rates),
        "share": round(median(a / b for a, b in zip(rates, on_device, strict=True)), 4),
    }


def ratios(contenders: dict[str, dict[str, Any]]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Each of our engines over each peer: how many times faster.

    Args:
        contenders: What `summarise` returns.

    Returns:
        By engine and peer: `images_per_s` at the best batch of each, and `p50`, their time over
        ours; None where latency was not taken.
    """
    measured = {name: row for name, row in contenders.items() if "failed" not in row}
    ours = [name for name in measured if name.startswith("engine-")]
    return {
        our: {
            name: {
                "images_per_s": _over(
                    measured[our]["best"]["images_per_s"], row["best"]["images_per_s"]
                ),
                "p50": _over(_p50(row), _p50(measured[our])),
            }
            for name, row in measured.items()
            if name not in ours
        }
        for our in ours
    }


def _p50(row: dict[str, Any]) -> float | None:
    return None if row["latency_ms"] is None else float(row["latency_ms"]["p50"])


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else round(a / b, 2)


def agreement(reference: Floats, other: Floats) -> dict[str, float]:
    """Centred cosine of embeddings of the same frames.

    Args:
        reference: float32 [n, dim].
        other: float32 [n, dim].

    Returns:
        `mean`, `p1` (first percentile) and `min`.
    """
    cosine = centred_cosine(reference, other)
    found = {"mean": cosine.mean(), "p1": np.percentile(cosine, 1), "min": cosine.min()}
    return {name: round(float(value), 6) for name, value in found.items()}
