"""Pools: how wide a run starts, as a plan says it; what the settings fix goes before the plan."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from reelsight.errors import ConfigError
from reelsight.settings import Settings

__all__ = ["Pools", "read_pools"]


@dataclass(frozen=True, slots=True)
class Pools:
    """How wide a run starts.

    Attributes:
        decode_tasks: As ray.decode_tasks.
        engine_actors: As ray.engine_actors.
        engine_gpus: As ray.engine_gpus.
        frames_per_s: What the run should do.
    """

    decode_tasks: int
    engine_actors: int
    engine_gpus: float
    frames_per_s: float

    def applied(self, settings: Settings) -> Settings:
        """Settings with these widths, where they fix none."""
        ray = settings.ray
        widths = {
            "decode_tasks": ray.decode_tasks or self.decode_tasks,
            "engine_actors": ray.engine_actors or self.engine_actors,
            "engine_gpus": ray.engine_gpus or self.engine_gpus,
        }
        return settings.model_copy(update={"ray": ray.model_copy(update=widths)})


def read_pools(path: Path, *, cluster: bool) -> Pools:
    """The pools of a plan that was written by `reelsight plan --json`.

    Args:
        path: The plan.
        cluster: Whether the run is on a cluster, and not on the machine that measured.

    Raises:
        ConfigError: It is no plan, or none for a cluster.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["pools"]
        chosen = found.get("cluster") if cluster else found["here"]
        if chosen is None:
            raise ConfigError(
                f"{path} has no nodes for a cluster",
                code="config.plan",
                hint="None of its price table could run the engine: give --prices or --gpu-rate.",
            )
        return Pools(**chosen)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a plan: {error}",
            code="config.plan",
            hint="Write one with `reelsight plan --manifest ... --json > plan.json`.",
        ) from error
