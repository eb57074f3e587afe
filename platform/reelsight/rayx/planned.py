"""A plan's widths for the run that is about to start: of a cluster, or of this machine."""

from __future__ import annotations

from pathlib import Path

from reelsight.capacity.pools import read_pools
from reelsight.rayx.cluster import cluster_address
from reelsight.settings import Settings

__all__ = ["as_planned"]


def as_planned(settings: Settings, plan: Path | None) -> tuple[Settings, float | None]:
    """Settings with the widths of a plan, and the frames per second that it promised.

    Args:
        settings: What they fix goes before the plan.
        plan: What `reelsight plan --json` wrote; None leaves the settings as they are.

    Raises:
        ConfigError: It is no plan, or has no nodes for a cluster.
    """
    if plan is None:
        return settings, None
    pools = read_pools(plan, cluster=cluster_address(settings) is not None)
    return pools.applied(settings), pools.frames_per_s
