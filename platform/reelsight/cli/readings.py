"""Readings of a server's /metrics, and what went on between two of them.

Reads Prometheus's text; it fetches nothing and draws nothing.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from reelsight.errors import FetchError

__all__ = ["Reading", "Window", "quantile"]

Labels = Mapping[str, str]
_QUEUES = ("decode", "engine", "text")
_STEPS = ("decode", "engine", "text", "aggregate")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at /metrics.

    Attributes:
        at: Seconds, on time.monotonic()'s clock.
        samples: By metric's name: labels and value of each sample.
    """

    at: float
    samples: Mapping[str, list[tuple[dict[str, str], float]]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Reading:
        """A reading of this moment.

        Raises:
            FetchError: `fetch.not_metrics`: it is no exposition of a Reelsight server.
        """
        found: dict[str, list[tuple[dict[str, str], float]]] = defaultdict(list)
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found[sample.name].append((dict(sample.labels), float(sample.value)))
        except (ValueError, IndexError, KeyError) as error:
            raise _strange(f"the answer is not Prometheus's text: {error}") from error
        if not any(name.startswith("reelsight_") for name in found):
            raise _strange("the answer has no metric of Reelsight")
        return cls(time.monotonic(), found)

    def total(self, name: str, wanted: Callable[[Labels], bool] = lambda _: True) -> float:
        """Sum over replicas and labels."""
        return sum(value for labels, value in self.samples.get(name, ()) if wanted(labels))

    def values(self, name: str, label: str) -> list[str]:
        """What a label has been, in order."""
        return sorted({labels.get(label, "") for labels, _ in self.samples.get(name, ())})


@dataclass(frozen=True, slots=True)
class Window:
    """What went on between two readings; since the server's start where there is no earlier one.

    Attributes:
        now: The later reading.
        before: The earlier one.
    """

    now: Reading
    before: Reading | None = None

    @property
    def seconds(self) -> float | None:
        """Its length; None where the start is not known."""
        return None if self.before is None else self.now.at - self.before.at

    def told(self) -> dict[str, Any]:
        """Everything, as plain values; times in seconds, None where nothing happened."""
        routes = [
            self._route(r) for r in self.now.values("reelsight_request_seconds_count", "route")
        ]
        return {
            "window_s": self.seconds,
            "engines": self._facts("reelsight_engine_info", "engine", "engine_hash"),
            "banks": self._facts("reelsight_bank_info", "bank", "bank_hash"),
            "replicas": self._replicas(),
            "unheard": self.now.values("reelsight_unheard_deployments", "deployment"),
            "in_flight": self.now.total("reelsight_requests_in_flight"),
            "waiting_clips": self.now.total("reelsight_waiting_clips"),
            "waiting_frames": self.now.total("reelsight_waiting_frames"),
            "frames": self.grown("reelsight_frames_total"),
            "frames_per_s": self._rate(self.grown("reelsight_frames_total")),
            "batch_fill": self._fill(),
            "routes": [route for route in routes if route["requests"]],
            "queues": {q: self._spread("reelsight_queue_wait_seconds", queue=q) for q in _QUEUES},
            "steps": {step: self._spread(f"reelsight_{step}_seconds") for step in _STEPS},
            "rejects": self._rejects(),
        }

    def _route(self, route: str) -> dict[str, Any]:
        name = "reelsight_request_seconds"
        refused = self.grown(
            f"{name}_count", lambda have: have["route"] == route and have["status"] >= "400"
        )
        spread = self._spread(name, route=route)
        requests = spread.pop("count") or 0.0
        rate = self._rate(requests)
        return {"route": route, "requests": requests, "per_s": rate, "refused": refused, **spread}

    def _spread(self, name: str, **labels: str) -> dict[str, float | None]:
        """Count, mean and quantiles of a histogram."""

        def wanted(have: Labels) -> bool:
            return all(have.get(key) == value for key, value in labels.items())

        count = self.grown(f"{name}_count", wanted)
        spent = self.grown(f"{name}_sum", wanted)
        buckets = self.buckets(f"{name}_bucket", wanted)
        return {
            "count": count,
            "mean_s": spent / count if count else None,
            "p50_s": quantile(buckets, 0.5),
            "p99_s": quantile(buckets, 0.99),
        }

    def buckets(
        self, name: str, wanted: Callable[[Labels], bool] = lambda _: True
    ) -> list[tuple[float, float]]:
        """Upper bounds of a histogram, ascending, and how many lie at or below each.

        Args:
            name: With its suffix `_bucket`.
            wanted: Which labels count.
        """
        bounds = {float(each) for each in self.now.values(name, "le")}
        return [
            (
                bound,
                self.grown(name, lambda have, b=bound: wanted(have) and float(have["le"]) == b),
            )
            for bound in sorted(bounds)
        ]

    def grown(self, name: str, wanted: Callable[..., bool] = lambda _: True) -> float:
        """How much a counter grew. Each replica's own: one that began anew counts from 0."""
        past: dict[frozenset[tuple[str, str]], float] = {}
        if self.before is not None:
            past = {frozenset(k.items()): v for k, v in self.before.samples.get(name, ())}
        grown = 0.0
        for labels, value in self.now.samples.get(name, ()):
            if wanted(labels):
                earlier = past.get(frozenset(labels.items()), 0.0)
                grown += value - earlier if value >= earlier else value
        return grown

    def _rate(self, grown: float) -> float | None:
        return grown / self.seconds if self.seconds else None

    def _fill(self) -> float | None:
        frames = self.grown("reelsight_frames_total")
        rows = frames + self.grown("reelsight_padding_frames_total")
        return frames / rows if rows else None

    def _rejects(self) -> dict[str, float]:
        name = "reelsight_rejects_total"
        counts = {
            code: self.grown(name, lambda have, c=code: have["code"] == c)
            for code in self.now.values(name, "code")
        }
        return {code: count for code, count in counts.items() if count}

    def _replicas(self) -> dict[str, int]:
        found: dict[str, set[str]] = defaultdict(set)
        for samples in self.now.samples.values():
            for labels, _ in samples:
                if "replica" in labels:
                    found[labels["deployment"]].add(labels["replica"])
        return {name: len(replicas) for name, replicas in sorted(found.items())}

    def _facts(self, name: str, *kept: str) -> list[str]:
        rows = {
            " ".join(labels.get(key, "")[:48] for key in kept)
            for labels, _ in self.now.samples.get(name, ())
        }
        return sorted(rows)


def quantile(buckets: list[tuple[float, float]], share: float) -> float | None:
    """By linear interpolation inside a bucket, as Prometheus's histogram_quantile does.

    Beyond the last finite bound it is that bound.

    Args:
        buckets: Upper bounds, ascending, and how many lie at or below each; the last is infinity.
        share: 0..1.

    Returns:
        In the unit of the bounds; None of nothing.
    """
    if not buckets or not buckets[-1][1]:
        return None
    rank = share * buckets[-1][1]
    low = below = 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return low
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low


def _strange(message: str) -> FetchError:
    return FetchError(
        message, code="fetch.not_metrics", hint="Give the base URL of `reelsight serve`."
    )
