"""Time the steps of every stage: python -m training.marks.probe [--data PHOTOS.npz] [--compile].

For the first minute on a new machine: whether everything runs there, at what rate, and whether the
encoders keep up. Nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from training.marks.codec_pool import CodecPool
from training.marks.pictures import Pictures, load_pictures
from training.marks.recipe import RECIPES, Recipe
from training.marks.schedule import Schedule
from training.marks.trainer import Trainer

__all__ = ["probe"]

_BUDGET = 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def probe(trainer: Trainer, stage: int, steps: int, warm: int) -> dict[str, Any]:
    """Run some steps from the middle of a stage.

    Args:
        trainer: Any; it goes on learning.
        stage: Index of the stage.
        steps: Timed.
        warm: Before them, not timed.
    """
    ends = [0.0, *trainer.schedule.ends]
    trainer.stage, trainer.spent = stage, _BUDGET * (ends[stage] + ends[stage + 1]) / 2
    for _ in range(warm):
        trainer.train_step()
    _wait(trainer.device)
    coded, begun = trainer.coded, time.perf_counter()
    for _ in range(steps):
        trainer.train_step()
    launched = time.perf_counter() - begun
    _wait(trainer.device)
    spent = time.perf_counter() - begun
    row: dict[str, Any] = {
        "stage": trainer.recipe.stages[stage].name,
        "steps_s": round(steps / spent, 2),
        "ms": round(spent / steps * 1e3, 1),
        "launch_ms": round(launched / steps * 1e3, 1),
        "coded": f"{trainer.coded - coded}/{steps}",
        "loss": round(float(trainer.seen["loss"]), 4),
    }
    if trainer.device.type == "cuda":
        row["gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
    return row


def _trainer(
    recipe: Recipe, pictures: dict[str, Pictures], pool: CodecPool, *, compiled: bool
) -> Trainer:
    device = pictures["train"].device
    return Trainer(recipe, Schedule(recipe, _BUDGET), pictures, pool, device, compiled=compiled)


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="full")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm", type=int, default=8)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 3))
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    recipe = RECIPES[options.recipe]
    recipe = recipe.with_batch(options.batch) if options.batch else recipe
    clips = max(12, *(stage.clips for stage in recipe.stages))
    pool = CodecPool(options.workers, clips=clips, frames=recipe.frames, side=max(recipe.sides))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    with tempfile.TemporaryDirectory() as work:
        pictures = load_pictures(recipe, options.data, Path(work), device)
    for compiled in (False, True) if options.compile else (False,):
        trainer = _trainer(recipe, pictures, pool, compiled=compiled)
        for stage in range(len(recipe.stages)):
            begun = time.perf_counter()
            row = probe(trainer, stage, options.steps, options.warm)
            row["with_warm_s"] = round(time.perf_counter() - begun, 1)
            print(json.dumps({"compiled": compiled, **row}), flush=True)
        trainer.line.take(wait=True)
    pool.close()


if __name__ == "__main__":
    main()
