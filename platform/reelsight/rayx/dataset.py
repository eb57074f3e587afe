"""The offline pipeline as a Ray Data plan: read -> decode -> engine -> report.

Decode runs as tasks and the engine as a pool of fixed size. The two ask for different resources on
purpose: with equal ones Ray Data fuses them into one operator, and a run on CPUs would have another
shape than a run on GPUs.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import ray
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy
from ray.util.annotations import RayDeprecationWarning

from reelsight.copies.worker import MarkWorker, TagAndMarkWorker
from reelsight.engine import EngineRecipe, EngineWorker, MarkRecipe
from reelsight.plan import ScanPlan, TaggingPlan
from reelsight.rayx.cluster import Widths
from reelsight.rayx.source import ShardSource
from reelsight.rayx.stages import decode_clips, report_clips
from reelsight.settings import Settings
from reelsight.store.manifest import Manifest

__all__ = ["scan_dataset", "tag_dataset"]

_Worker = tuple[type[Any], tuple[Any, ...]]

_DECODE_CPUS = 1.0
# An engine on the CPU shares its core with the decoders beside it.
_ENGINE_CPUS = 0.5
# Enough blocks that every decoder gets several: the last one alone should not decide the run's
# length.
_BLOCKS_PER_DECODER = 4
# Ray tries for ever by default, and would with a clip that crashes its process as well.
_TRIES = 3


def tag_dataset(
    manifest: Manifest | ShardSource,
    plan: TaggingPlan,
    recipe: EngineRecipe,
    settings: Settings,
    widths: Widths,
    reader: MarkRecipe | None = None,
) -> Dataset:
    """A lazy dataset of Report rows, one a manifest row, with the stage costs beside them.

    Args:
        manifest: The clips, or shards of them.
        plan: What to do to each.
        recipe: How to open the plan's engine in an actor.
        settings: The size of a block and of the engine's queue.
        widths: How many decoders and engines there are.
        reader: How to open the extractor of the plan's marks, where it has some.
    """
    worker: _Worker = (EngineWorker, (recipe.open_engine, recipe.spec))
    if reader is not None:
        arguments = (recipe.open_engine, recipe.spec, reader.open_engine, plan.marks)
        worker = (TagAndMarkWorker, arguments)
    return _quiet_pipeline(manifest, plan, worker, settings, widths)


def scan_dataset(
    manifest: Manifest | ShardSource,
    plan: ScanPlan,
    reader: MarkRecipe,
    settings: Settings,
    widths: Widths,
) -> Dataset:
    """As `tag_dataset`, of clips in which marks are read and nothing is tagged."""
    worker: _Worker = (MarkWorker, (reader.open_engine, plan.marks))
    return _quiet_pipeline(manifest, plan, worker, settings, widths)


def _quiet_pipeline(
    manifest: Manifest | ShardSource,
    plan: TaggingPlan | ScanPlan,
    worker: _Worker,
    settings: Settings,
    widths: Widths,
) -> Dataset:
    with warnings.catch_warnings():
        # Retry limits have no other way in yet; Ray keeps this one until 2.64.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return _pipeline(manifest, plan, worker, settings, widths)


def _pipeline(
    manifest: Manifest | ShardSource,
    plan: TaggingPlan | ScanPlan,
    worker: _Worker,
    settings: Settings,
    widths: Widths,
) -> Dataset:
    share = math.ceil(manifest.rows / (widths.decoders * _BLOCKS_PER_DECODER))
    rows_per_block = min(settings.ray.clips_per_block, max(1, share))
    blocks = math.ceil(manifest.rows / rows_per_block)
    return (
        _clips(manifest, rows_per_block)
        .map_batches(
            decode_clips,
            fn_kwargs={"plan": plan, "carried": manifest.carried},
            batch_format="pyarrow",
            batch_size=None,
            compute=TaskPoolStrategy(min(widths.decoders, blocks)),
            num_cpus=_DECODE_CPUS,
            num_gpus=settings.ray.decode_gpus,
            max_retries=_TRIES,
        )
        .map_batches(
            worker[0],
            fn_constructor_args=worker[1],
            fn_constructor_kwargs={"max_queued_frames": settings.engine.max_queued_frames},
            batch_format="pyarrow",
            # Whole blocks: Ray Data bounds them in bytes, which a number of clips would not.
            batch_size=None,
            zero_copy_batch=True,
            compute=ActorPoolStrategy(
                size=min(widths.engines, blocks),
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            num_cpus=_ENGINE_CPUS,
            num_gpus=settings.ray.engine_gpus,
            max_restarts=_TRIES,
            max_task_retries=_TRIES,
        )
        .map_batches(
            report_clips, fn_kwargs={"plan": plan}, batch_format="pyarrow", batch_size=None
        )
    )


def _clips(manifest: Manifest | ShardSource, rows_per_block: int) -> Dataset:
    if isinstance(manifest, ShardSource):
        return manifest.read(rows_per_block)
    # Whatever its name and directory are, it is one Parquet file without partitions.
    path = str(manifest.path.absolute())
    return ray.data.read_parquet(path, file_extensions=None, partitioning=None).repartition(
        target_num_rows_per_block=rows_per_block
    )
