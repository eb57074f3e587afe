"""What the engine did while it was asked, by the door's own /metrics.

`reelsight_embed_seconds` has one observation a request of frames: from its arrival at the engine to
its last embedding, its place in the queue and all its runs included.
"""

from __future__ import annotations

import http.client
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Counted", "counted", "engine_stage", "quantile"]

_AIM_MS = 10.0
_HISTOGRAMS = ("reelsight_embed_seconds", "reelsight_engine_seconds", "reelsight_decode_seconds")
_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Counted:
    """The door's counters at a moment, replicas added up.

    Attributes:
        totals: Of counters, and of histograms their `_sum` and `_count`.
        buckets: Of histograms: observations at most so large, by the bound in seconds.
    """

    totals: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    buckets: dict[str, dict[float, float]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(float))
    )

    @classmethod
    def read(cls, text: str) -> Counted:
        """From Prometheus's text."""
        found = cls()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{family.name}_bucket":
                    bound = float(sample.labels["le"])
                    found.buckets[family.name][bound] += sample.value
                elif family.type in ("counter", "histogram"):
                    found.totals[sample.name] += sample.value
        return found

    def since(self, before: Counted) -> Counted:
        """What was counted in between."""
        made = Counted()
        for name, value in self.totals.items():
            made.totals[name] = value - before.totals.get(name, 0.0)
        for name, bounds in self.buckets.items():
            earlier = before.buckets.get(name, {})
            for bound, value in bounds.items():
                made.buckets[name][bound] = value - earlier.get(bound, 0.0)
        return made


def counted(port: int) -> Counted:
    """The counters of a door on loopback.

    Raises:
        OSError: It does not answer.
        http.client.HTTPException: Nor in HTTP, or not with 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        raise http.client.HTTPException(f"/metrics said {answer.status}: {text[:200]}")
    return Counted.read(text)


def quantile(buckets: dict[float, float], share: float) -> tuple[float, float] | None:
    """Where a quantile of a histogram lies.

    Args:
        buckets: Observations at most so large, by the bound in seconds; the last is infinity.
        share: 0..1.

    Returns:
        Milliseconds: by linear interpolation within its bucket, as Prometheus does it, and the
        bucket's upper bound, which it is certainly below. None of nothing.
    """
    ranked = sorted(buckets.items())
    if not ranked or not ranked[-1][1]:
        return None
    wanted, low, below = share * ranked[-1][1], 0.0, 0.0
    for bound, upto in ranked:
        if upto >= wanted and upto > below:
            if bound == float("inf"):
                return round(1000 * low, 3), bound
            inside = low + (bound - low) * (wanted - below) / (upto - below)
            return round(1000 * inside, 3), round(1000 * bound, 3)
        low, below = bound, upto
    return None


def engine_stage(done: Counted, seconds: float) -> dict[str, Any]:
    """Queue and run in the engine, batches, and decoding, of what was counted in a while.

    Args:
        done: What was counted.
        seconds: For how long.

    Returns:
        Milliseconds, shares, and `busy`, the engine's share of that time.
    """
    embeds = done.buckets["reelsight_embed_seconds"]
    batches = done.totals["reelsight_engine_seconds_count"]
    frames = done.totals["reelsight_frames_total"]
    whole = max(embeds.values(), default=0.0)
    within = max((n for le, n in embeds.items() if le * 1000 <= _AIM_MS), default=0.0)
    found: dict[str, Any] = {
        "frames": int(frames),
        "busy": round(done.totals["reelsight_engine_seconds_sum"] / max(seconds, 1e-9), 3),
        "frames_a_batch": round(frames / batches, 2) if batches else None,
        "padding_share": _share(done.totals["reelsight_padding_frames_total"], frames),
        "within_10_ms": round(within / whole, 4) if whole else None,
    }
    for name in _HISTOGRAMS:
        word = name.removeprefix("reelsight_").removesuffix("_seconds")
        for percent in (50, 99):
            place = quantile(done.buckets[name], percent / 100)
            found[f"{word}_p{percent}_ms"] = None if place is None else place[0]
            if percent == 99:
                found[f"{word}_p99_below_ms"] = None if place is None else place[1]
    return found


def _share(part: float, rest: float) -> float | None:
    return round(part / (part + rest), 4) if part + rest else None
