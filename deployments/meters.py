"""Meters: what one replica counts and times, and the numbers of many replicas put together.

Every name has its unit (seconds, frames, clips, bytes). Each application has a registry of its own:
the process's default one belongs to Ray. Which replicas there are is no business of this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from reelsight.plan import TaggingPlan

__all__ = ["Family", "Gather", "Meters", "Numbers", "exposition", "gather_own", "plan_facts"]

_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2, 5, 10, 30, 60)
_STEP_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
# What a GPU's answers are judged by lies between 1 and 20 ms.
_EMBED_S = (
    *(0.0005, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03),
    *(0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30),
)
_SHARE = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, as Prometheus's text has it.

    Attributes:
        head: Its lines of help and type.
        samples: Its lines of samples.
    """

    head: str
    samples: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """What one replica has counted.

    Attributes:
        deployment: Which part of the application it is.
        replica: Its name among those.
        families: Its metrics by name. Each replica writes its own text, so that whoever gathers
            the text of many only joins it.
        unheard: Deployments whose replicas did not answer whoever gathered these.
    """

    deployment: str
    replica: str
    families: dict[str, Family]
    unheard: tuple[str, ...] = field(default=())


Gather = Callable[[], Awaitable[Sequence[Numbers]]]


class Meters:
    """The counters of one replica. Every method may be called from any thread.

    Args:
        deployment: Which part of the application this is.
        replica: Its name among those.
    """

    def __init__(self, deployment: str = "door", replica: str = "0") -> None:
        self.deployment, self.replica = deployment, replica
        self._beside: list[Meters] = []
        self._registry = registry = CollectorRegistry(auto_describe=False)
        self._requests = Histogram(
            "reelsight_request_seconds",
            "From the first byte of the head to the last of the answer.",
            ("route", "method", "status"),
            registry=registry,
            buckets=_REQUEST_S,
        )
        self.in_flight = Gauge(
            "reelsight_requests_in_flight", "Requests that are being answered.", registry=registry
        )
        self._rejects = Counter(
            "reelsight_rejects", "Requests answered with a problem.", ("code",), registry=registry
        )
        self._queue = Histogram(
            "reelsight_queue_wait_seconds",
            "From the arrival in a queue (decode, engine, text) to the turn.",
            ("queue",),
            registry=registry,
            buckets=_STEP_S,
        )
        self._decode = self._step("decode", "Decoding and scaling of one clip or picture.")
        self._engine = self._step("engine", "One batch on the engine.")
        self._embed = self._step(
            "embed",
            "From a request's arrival at the engine to the last of its embeddings.",
            _EMBED_S,
        )
        self._text = self._step("text", "One batch of texts through the text tower.")
        self._aggregate = self._step("aggregate", "From a clip's embeddings to its Report.")
        self._fill = Histogram(
            "reelsight_batch_fill_ratio",
            "Share of a batch's rows that are frames, the rest is padding.",
            registry=registry,
            buckets=_SHARE,
        )
        self._retries = Counter(
            "reelsight_replica_retries",
            "Calls asked again, because the replica that had them was lost.",
            ("hop",),
            registry=registry,
        )
        self._verdicts = Counter(
            "reelsight_mark_verdicts", "Clips that were traced.", ("verdict",), registry=registry
        )
        self._frames = Counter("reelsight_frames", "Frames embedded.", registry=registry)
        self._padding = Counter(
            "reelsight_padding_frames", "Rows of padding run beside them.", registry=registry
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request's answer has gone out."""
        self._requests.labels(route, method, str(status)).observe(seconds)

    def rejected(self, code: str) -> None:
        """A request was answered with a problem."""
        self._rejects.labels(code).inc()

    def asked_again(self, hop: str) -> None:
        """A call was lost with its replica, and another replica of that deployment is asked."""
        self._retries.labels(hop).inc()

    def queued(self, queue: str, seconds: float) -> None:
        """Something waited for its turn in a queue."""
        self._queue.labels(queue).observe(seconds)

    def decoded(self, seconds: float) -> None:
        """A clip or picture was decoded."""
        self._decode.observe(seconds)

    def read_texts(self, seconds: float) -> None:
        """A batch of texts was embedded."""
        self._text.observe(seconds)

    def aggregated(self, seconds: float) -> None:
        """A clip's embeddings became its Report."""
        self._aggregate.observe(seconds)

    def traced(self, verdict: str) -> None:
        """Whose copy a clip is was said."""
        self._verdicts.labels(verdict).inc()

    def waited(self, seconds: float) -> None:
        """As HostObserver."""
        self.queued("engine", seconds)

    def ran(self, frames: int, bucket: int, seconds: float) -> None:
        """As HostObserver."""
        self._engine.observe(seconds)
        self._fill.observe(frames / bucket)
        self._frames.inc(frames)
        self._padding.inc(bucket - frames)

    def embedded(self, seconds: float) -> None:
        """As HostObserver."""
        self._embed.observe(seconds)

    def watch(self, name: str, help_text: str, now: Callable[[], float]) -> None:
        """A gauge that is asked when the numbers are read."""
        Gauge(name, help_text, registry=self._registry).set_function(now)

    def collect_from(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """Families that are made when the numbers are read."""
        self._registry.register(_Made(collect))

    def beside(self, deployment: str) -> Meters:
        """Meters of another part that runs in this replica; told together with these."""
        other = Meters(deployment, self.replica)
        self._beside.append(other)
        return other

    async def numbers(self) -> Numbers:
        """Everything so far; written on a thread, because it takes milliseconds."""
        return await asyncio.to_thread(self.written)

    def written(self) -> Numbers:
        """As `numbers`, at once."""
        origin = {"deployment": self.deployment, "replica": self.replica}
        families = {f.name: _text(f, origin) for f in self._registry.collect()}
        for other in self._beside:
            for name, family in other.written().families.items():
                known = families.get(name, Family(family.head, ""))
                families[name] = Family(known.head, known.samples + family.samples)
        return Numbers(self.deployment, self.replica, families)

    def _step(self, name: str, help_text: str, buckets: tuple[float, ...] = _STEP_S) -> Histogram:
        return Histogram(
            f"reelsight_{name}_seconds", help_text, registry=self._registry, buckets=buckets
        )


class _Made(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def plan_facts(plan: Callable[[], TaggingPlan]) -> Callable[[], list[Metric]]:
    """The engine and the bank of the plan in force, as info metrics."""

    def collect() -> list[Metric]:
        made, spec = plan().provenance, plan().spec
        engine = {
            "model": made.model,
            "engine": made.engine,
            "engine_hash": made.engine_hash,
            "precision": spec.precision,
        }
        bank = {"bank": made.bank, "bank_hash": made.bank_hash}
        return [
            InfoMetricFamily("reelsight_engine", "The engine that answers.", value=engine),
            InfoMetricFamily("reelsight_bank", "The labels that are answered with.", value=bank),
        ]

    return collect


def gather_own(meters: Meters) -> Gather:
    """The numbers of this process alone, where there are no other replicas."""

    async def gather() -> Sequence[Numbers]:
        return [await meters.numbers()]

    return gather


def exposition(replicas: Sequence[Numbers]) -> str:
    """Prometheus's text format, each sample with its deployment and replica."""
    joined: dict[str, list[str]] = {}
    for numbers in replicas:
        for name, family in numbers.families.items():
            joined.setdefault(name, [family.head]).append(family.samples)
    unheard = Metric(
        "reelsight_unheard_deployments", "Deployments missing from these numbers.", "gauge"
    )
    for name in sorted({name for numbers in replicas for name in numbers.unheard}):
        unheard.add_sample(unheard.name, {"deployment": name}, 1.0)
    last = _text(unheard, {})
    return "".join(
        [*(part for parts in joined.values() for part in parts), last.head, last.samples]
    )


def _text(family: Metric, origin: dict[str, str]) -> Family:
    told = Metric(family.name, family.documentation, family.type)
    # Prometheus has each series' age already; `_created` only doubles the bytes.
    told.samples = [
        sample._replace(labels={**sample.labels, **origin})
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]
    text = generate_latest(_Made(lambda: [told])).decode()
    lines = text.splitlines(keepends=True)
    heads = sum(line.startswith("#") for line in lines[:2])
    return Family("".join(lines[:heads]), "".join(lines[heads:]))
