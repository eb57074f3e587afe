"""The offline pipeline as a Ray Data plan: read -> decode -> engine -> report.

Decode runs as tasks and the engine as a pool of fixed size. The two ask for different resources on
purpose: with equal ones Ray Data fuses them into one operator, and a run on CPUs would have another
shape than a run on GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import ray
from ray.data import ActorPoolStrategy, Dataset, TaskPoolStrategy

from reelsight.engine import Engine, EngineWorker
from reelsight.plan import TaggingPlan
from reelsight.rayx.stages import DecodeStage, ReportStage
from reelsight.settings import Settings
from reelsight.store.manifest import Manifest

__all__ = ["tag_dataset"]

_DECODE_CPUS = 1.0
# An engine on the CPU shares its core with the decoders beside it; an engine on a GPU needs a
# little of one to feed it.
_ENGINE_CPUS = 0.5
# Enough blocks that every decoder gets several: the last one alone should not decide the run's
# length.
_BLOCKS_PER_DECODER = 4


def tag_dataset(
    manifest: Manifest, plan: TaggingPlan, open_engine: Callable[[], Engine], settings: Settings
) -> Dataset:
    """A lazy dataset of Report rows, one a manifest row, with the stage costs beside them.

    Args:
        manifest: The clips.
        plan: What to do to each.
        open_engine: Makes the plan's engine in an actor; picklable.
        settings: The sizes of the stages.
    """
    share = math.ceil(manifest.rows / (settings.decode_tasks * _BLOCKS_PER_DECODER))
    rows_per_block = min(settings.ray.clips_per_block, max(1, share))
    blocks = math.ceil(manifest.rows / rows_per_block)
    return (
        ray.data.read_parquet(str(manifest.path.absolute()))
        .repartition(target_num_rows_per_block=rows_per_block)
        .map_batches(
            DecodeStage(plan, manifest.carried).__call__,
            batch_format="pyarrow",
            batch_size=None,
            compute=TaskPoolStrategy(min(settings.decode_tasks, blocks)),
            num_cpus=_DECODE_CPUS,
        )
        .map_batches(
            EngineWorker,
            fn_constructor_args=(open_engine,),
            fn_constructor_kwargs={"max_queued_frames": settings.engine.max_queued_frames},
            batch_format="pyarrow",
            batch_size=settings.ray.clips_per_batch,
            zero_copy_batch=True,
            compute=ActorPoolStrategy(
                size=settings.engine_actors,
                max_concurrent_calls_per_actor=2,
                enable_true_multi_threading=True,
            ),
            num_cpus=_ENGINE_CPUS,
            num_gpus=settings.ray.engine_gpus,
        )
        .map_batches(
            ReportStage(plan, manifest.carried).__call__, batch_format="pyarrow", batch_size=None
        )
    )
