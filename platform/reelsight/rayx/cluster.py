"""Joining or starting Ray, the same way for every job."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray.data import DataContext

from reelsight.errors import RunError
from reelsight.settings import Settings

__all__ = ["Widths", "cluster_address", "ray_session"]

# Ray Data reserves logical CPUs for reading, mapping and writing at once: with fewer than this it
# can wait for itself for ever. They are slots, not cores; the stages' own limits follow the cores.
_LOGICAL_CPUS = 8


@dataclass(frozen=True, slots=True)
class Widths:
    """How wide a run is.

    Attributes:
        decoders: Decode tasks at a time.
        engines: Engine actors.
    """

    decoders: int
    engines: int


@contextmanager
def ray_session(settings: Settings, *, niceness: int | None = None) -> Iterator[Widths]:
    """Use the running session, join the configured cluster, or start a local one.

    Args:
        settings: `ray.address` and, where they are fixed, the widths.
        niceness: Of the workers of a session that is started here, -20..19; None for Ray's own, 15,
            by which whatever else runs on the machine goes first.

    Yields:
        The widths: fixed by the settings, else one decoder a core of the machine or cluster and one
        engine for every four, but two where there are two cores: idle engines cost no time, and a
        large model on one engine would leave cores idle. With ray.engine_gpus there is one engine
        for every such share of the GPUs. A session that was started here is ended
        on the way out.

    Raises:
        RunError: The cluster does not answer.
    """
    started = not ray.is_initialized()
    cores = _join_or_start(settings, niceness) if started else _cluster_cores()
    context = DataContext.get_current()
    # `reelsight.rayx.live` tells more in a line.
    context.enable_progress_bars = context.enable_rich_progress_bars = False
    # The second-generation Parquet reader starts 32 actors to read the footer of one small
    # manifest.
    context.use_datasource_v2 = False
    # What it would log is raised as well, and said once, by us.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    try:
        yield Widths(
            decoders=settings.ray.decode_tasks or cores,
            engines=settings.ray.engine_actors or _engines(cores, settings.ray.engine_gpus),
        )
    finally:
        if started:
            ray.shutdown()


def cluster_address(settings: Settings) -> str | None:
    """The cluster that a run would join; None for a session of its own."""
    return settings.ray.address or os.environ.get("RAY_ADDRESS")


def _engines(cores: int, gpus_each: float) -> int:
    if gpus_each:
        return max(1, int(ray.cluster_resources().get("GPU", 0) / gpus_each))
    return max(min(cores, 2), cores // 4)


def _join_or_start(settings: Settings, niceness: int | None) -> int:
    """Returns the cores that the stages may use."""
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address := cluster_address(settings):
        try:
            ray.init(address=address, **common)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise RunError(
                f"cannot join the Ray cluster at {address}: {error}",
                code="run.no_cluster",
                hint="Check the address, and RAY_AUTH_TOKEN or ~/.ray/auth_token against it.",
            ) from error
        return _cluster_cores()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    fixed = (settings.ray.decode_tasks or 0) + (settings.ray.engine_actors or 0)
    slots = max(_LOGICAL_CPUS, 2 * (cores or 1), fixed + 2)
    if niceness is not None:
        os.environ.setdefault("RAY_worker_niceness", str(niceness))
    with _quiet_stderr():
        ray.init(address="local", num_cpus=slots, include_dashboard=False, **common)
    return cores or 1


def _cluster_cores() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep Ray's C++ side from writing to the terminal, past every Python logger.

    With its level lowered it says on start that its level was lowered; otherwise it says of every
    actor pool that its actors may not survive a restart.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
