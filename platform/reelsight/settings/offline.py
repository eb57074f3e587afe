"""Settings of the backfill's shape on Ray Data."""

from __future__ import annotations

from pydantic import Field

from reelsight.settings.group import Group

__all__ = ["RaySettings"]


class RaySettings(Group):
    """The shape of the offline run.

    Attributes:
        address: Cluster to join; None joins the one of RAY_ADDRESS, or starts a local one.
        decode_tasks: Decode tasks at a time; None takes the cores of the machine, or of the cluster
            that is joined.
        decode_gpus: GPUs, or the share of one, that a decode task reserves, for media.backend
            nvdec; without it every task of a node uses the first that CUDA shows.
        engine_actors: Engines; None takes one for every four of those cores, at least two, and with
            engine_gpus as many as the cluster's GPUs hold.
        engine_gpus: GPUs, or the share of one, that an engine reserves.
        clips_per_block: Largest number of clips in a block of work.
        shards: Into how many parts a new run's manifest is split, each committed as a whole; None
            takes one for every 1024 clips, 65,536 at most. A run keeps what it began with.
        max_dead_share: A run stops itself above this share of dead letters among the clips of one
            try, 0..1: then something is wrong that is not the clips. 1 never stops it.
        max_dead_least: Smallest number of dead letters that it is judged by.
    """

    address: str | None = None
    decode_tasks: int | None = Field(default=None, ge=1)
    decode_gpus: float = Field(default=0.0, ge=0.0)
    engine_actors: int | None = Field(default=None, ge=1)
    engine_gpus: float = Field(default=0.0, ge=0.0)
    clips_per_block: int = Field(default=32, ge=1)
    shards: int | None = Field(default=None, ge=1, le=999_999)
    max_dead_share: float = Field(default=0.5, ge=0.0, le=1.0)
    max_dead_least: int = Field(default=100, ge=1)
