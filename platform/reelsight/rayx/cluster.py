"""Joining or starting Ray, the same way for every job."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext

from reelsight.settings import Settings

__all__ = ["ray_session"]

# Ray Data reserves logical CPUs for reading, mapping and writing at once: with fewer than this it
# can wait for itself for ever. They are slots, not cores; the stages' own limits follow the
# cores.
_LOGICAL_CPUS = 8


@contextmanager
def ray_session(settings: Settings, *, progress: bool) -> Iterator[None]:
    """Use the running session, join the configured cluster, or start a local one.

    Args:
        settings: `ray.address` and the sizes of the stages.
        progress: Whether a person watches Ray Data's progress bars.

    Yields:
        Nothing; a session that was started here is ended on the way out.
    """
    started = not ray.is_initialized()
    if started:
        _init(settings)
    context = DataContext.get_current()
    context.enable_progress_bars = progress
    context.enable_rich_progress_bars = progress
    context.use_ray_tqdm = False
    # The second-generation Parquet reader starts 32 actors to read the footer of one small
    # manifest.
    context.use_datasource_v2 = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def _init(settings: Settings) -> None:
    address = settings.ray.address or os.environ.get("RAY_ADDRESS")
    common = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        ray.init(address=address, **common)
        return
    # Ray's C++ side writes to the terminal, past every Python logger, about its own actors'
    # restarts.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    slots = settings.decode_tasks + settings.engine_actors + 2
    ray.init(num_cpus=max(_LOGICAL_CPUS, slots), include_dashboard=False, **common)
