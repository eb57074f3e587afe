"""From what a sample cost to hours, nodes and dollars. Arithmetic: it measures nothing.

Each formula is a ratio of three numbers: core-seconds a frame, frames a second of an engine, frames
of the manifest. What it leaves out is said in docs/submit.md: start-up of nodes, spot prices,
traffic, and how much slower an object store is than what the sample was read from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from reelsight.capacity.measured import STAGES, Measured
from reelsight.capacity.pools import Pools
from reelsight.capacity.prices import Node, Prices

__all__ = ["Estimate", "Fleet", "estimate"]

# Of a core, that an engine actor reserves: `reelsight.rayx.dataset`.
_ENGINE_CPUS = 0.5


@dataclass(frozen=True, slots=True)
class Fleet:
    """Nodes that meet the deadline, beside the head.

    Attributes:
        nodes: How many of each, by name.
        hours: Until the manifest is done.
        usd: For that long.
        usd_per_million: Dollars for a million frames.
        pools: What a run on them starts with.
    """

    nodes: dict[str, int]
    hours: float
    usd: float
    usd_per_million: float
    pools: Pools


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a manifest will take.

    Attributes:
        clips: Of the manifest.
        frames: Of the manifest, from the sample.
        frames_error: Standard error of that, as a share.
        stages: Frames per second of one core (or device), by stage.
        limiting_stage: The stage that takes the most of what the stages share, or the engine where
            it has devices and the cores of this machine keep up with one.
        frames_per_s: Of this machine.
        hours: On this machine.
        here: What a run on this machine starts with.
        cpus_per_engine: Cores that keep one engine busy: one GPU, or one core of its own.
        on_gpus: Whether that engine is a GPU's.
        deadline_hours: What the fleets are for.
        fleets: The cheapest first; empty where no node of the table can run the engine.
        prices: Date and note of the table.
        measured: What all of it comes from.
    """

    clips: int
    frames: int
    frames_error: float
    stages: dict[str, float]
    limiting_stage: str
    frames_per_s: float
    hours: float
    here: Pools
    cpus_per_engine: float
    on_gpus: bool
    deadline_hours: float
    fleets: tuple[Fleet, ...]
    prices: str
    measured: Measured

    def to_json(self) -> dict[str, Any]:
        """As `--plan` reads it back."""
        pools = {"here": asdict(self.here)}
        if self.fleets:
            pools["cluster"] = asdict(self.fleets[0].pools)
        return {"version": 1, "pools": pools, **asdict(self)}


def estimate(
    measured: Measured,
    clips: int,
    prices: Prices,
    deadline_hours: float,
    gpu_rate: float | None = None,
) -> Estimate:
    """What a manifest will take.

    Args:
        measured: A sample of it.
        clips: Rows of the manifest.
        prices: Nodes to choose from.
        deadline_hours: When it shall be done, > 0.
        gpu_rate: Frames per second of one GPU with the engine, where this machine has none.
    """
    m = measured
    frames = round(clips * m.frames_per_clip)
    rate = m.cores / m.cpu_cost
    if m.on_gpu:
        rate = min(rate, m.rate("engine"))
    seconds = m.start_s + frames / rate
    known = gpu_rate or (m.rate("engine") if m.on_gpu else None)
    engine_rate = known or m.rate("engine")
    here = Pools(
        decode_tasks=m.cores,
        engine_actors=1 if m.on_gpu else max(min(m.cores, 2), round(m.cores * m.engine_share)),
        engine_gpus=0.0,
        frames_per_s=round(rate, 3),
    )
    fleets = sorted(
        _fleets(m, frames, prices, deadline_hours, known), key=lambda fleet: fleet.usd_per_million
    )
    return Estimate(
        clips=clips,
        frames=frames,
        frames_error=m.frames_error,
        stages={stage: m.rate(stage) for stage in STAGES},
        limiting_stage=_limiting(m),
        frames_per_s=rate,
        hours=seconds / 3600,
        here=here,
        cpus_per_engine=engine_rate * _without_engine(m),
        on_gpus=known is not None,
        deadline_hours=deadline_hours,
        fleets=tuple(fleets),
        prices=f"{prices.date}: {prices.note}",
        measured=m,
    )


def _without_engine(m: Measured) -> float:
    """Core-seconds a frame in front of the engine and behind it."""
    return m.cost(*(stage for stage in STAGES if stage != "engine"))


def _limiting(m: Measured) -> str:
    if m.on_gpu and m.rate("engine") <= m.cores / m.cpu_cost:
        return "engine"
    shared = [stage for stage in STAGES if stage != "engine" or not m.on_gpu]
    return max(shared, key=lambda stage: m.seconds[stage])


def _fleets(
    m: Measured, frames: int, prices: Prices, hours: float, gpu_rate: float | None
) -> Iterator[Fleet]:
    """Every kind of node by itself, and every GPU node with CPU nodes beside it."""
    wanted = frames / (hours * 3600)
    for node in prices.node:
        if not node.gpus and not m.on_gpu:
            count = math.ceil(wanted * m.cpu_cost / (node.vcpus * node.core_speed))
            yield _on_cpus(m, frames, node, max(1, count))
        each = node.engine_frames_per_s or gpu_rate
        if not node.gpus or each is None:
            continue
        engines = max(1, math.ceil(wanted / (each * node.gpus)))
        spare = wanted * _without_engine(m) - engines * node.vcpus * node.core_speed
        alone = max(
            engines, math.ceil(wanted * _without_engine(m) / (node.vcpus * node.core_speed))
        )
        yield _with_gpus(m, frames, each, {node: alone})
        for other in prices.node:
            if spare > 0 and not other.gpus:
                beside = math.ceil(spare / (other.vcpus * other.core_speed))
                yield _with_gpus(m, frames, each, {node: engines, other: beside})


def _on_cpus(m: Measured, frames: int, node: Node, count: int) -> Fleet:
    total = count * node.vcpus
    engines = max(2, round(total * m.engine_share))
    rate = total * node.core_speed / m.cpu_cost
    decode = max(1, total - math.ceil(engines * _ENGINE_CPUS))
    return _fleet(frames, {node: count}, Pools(decode, engines, 0.0, round(rate, 3)))


def _with_gpus(m: Measured, frames: int, each: float, nodes: dict[Node, int]) -> Fleet:
    gpus = sum(node.gpus * count for node, count in nodes.items())
    cores = sum(node.vcpus * count for node, count in nodes.items())
    speed = sum(node.vcpus * node.core_speed * count for node, count in nodes.items())
    rate = min(gpus * each, speed / _without_engine(m))
    decode = max(1, cores - math.ceil(gpus * _ENGINE_CPUS))
    return _fleet(frames, nodes, Pools(decode, gpus, 1.0, round(rate, 3)))


def _fleet(frames: int, nodes: dict[Node, int], pools: Pools) -> Fleet:
    hours = frames / pools.frames_per_s / 3600
    usd = hours * sum(node.usd_per_hour * count for node, count in nodes.items())
    names = {node.name: count for node, count in nodes.items()}
    return Fleet(names, hours, usd, usd / frames * 1e6, pools)
