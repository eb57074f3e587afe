"""Train the mark: python -m training.marks --work DIR --data PHOTOS.npz --minutes 9.

Call it again to go on; after the last stage it has exported a pair with its card. See README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from reelsight.errors import ReelsightError
from training.marks.codec_pool import CodecPool
from training.marks.pictures import load_pictures
from training.marks.recipe import RECIPES, Recipe
from training.marks.run import Limits, Run
from training.marks.schedule import Schedule
from training.marks.trainer import Trainer

__all__ = ["arguments", "main"]

_GATE_MISSED = 3
# Seconds for the last evaluation and export, and for those of stages that end on the way.
_FINISH_S, _STAGES_S = 25.0, 30.0


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.marks", description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="checkpoint, metrics, exports")
    parser.add_argument(
        "--data", type=Path, help="a pack of photographs; drawn pictures without it"
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="of this call, start included")
    parser.add_argument("--total-minutes", type=float, default=23.0, help="of training, all calls")
    parser.add_argument("--last", action="store_true", help="finish the schedule in this call")
    parser.add_argument(
        "--reserve", type=float, default=25.0, help="seconds kept for the call's end"
    )
    parser.add_argument("--steps", type=int, help="count the budget in steps instead")
    parser.add_argument("--stop-after", type=int, help="return after this step")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="full")
    parser.add_argument("--batch", type=int, help="instead of the recipe's")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 3))
    parser.add_argument("--compile", action="store_true", help="let torch compile the extractor")
    parser.add_argument("--start", type=Path, help="average.pt of an earlier run")
    parser.add_argument("--report", type=float, default=15.0, help="seconds between lines")
    parser.add_argument("--save", type=float, default=100.0, help="seconds between checkpoints")
    parser.add_argument("--force", action="store_true", help="go on after a missed gate")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def _pool(recipe: Recipe, workers: int) -> CodecPool:
    clips = max(12, *(stage.clips for stage in recipe.stages))
    return CodecPool(workers, clips=clips, frames=recipe.frames, side=max(recipe.sides))


def main(words: list[str] | None = None) -> int:
    """Train for one call; the exit status is 3 when a stage missed its gate."""
    started = time.monotonic()
    options = arguments(words)
    recipe = RECIPES[options.recipe]
    if options.batch:
        recipe = recipe.with_batch(options.batch)
    options.work.mkdir(parents=True, exist_ok=True)
    pool = _pool(recipe, options.workers)
    try:
        trainer = _trainer(options, recipe, pool)
        deadline = started + options.minutes * 60 - options.reserve
        if options.last:
            deadline -= _FINISH_S
            trainer.stretch(max(1.0, deadline - time.monotonic() - _STAGES_S))
        limits = Limits(
            deadline=deadline,
            steps=options.steps,
            stop_after=options.stop_after,
            report_s=options.report,
            save_s=options.save,
            last=options.last,
            gated=not options.force,
        )
        data = (
            f"Photographs: {trainer.pictures['train'].photos}. Drawn pictures: {recipe.pictures}."
        )
        print(
            f"recipe {recipe.name}, {trainer.device}, torch {torch.__version__}, "
            f"{options.workers} encoders, step {trainer.step}, {data} "
            f"Ready after {time.monotonic() - started:.0f} s.",
            flush=True,
        )
        finished = Run(trainer, options.work, limits, data).go()
        print(f"{'finished' if finished else 'to be continued'} at step {trainer.step}", flush=True)
    except ReelsightError as error:
        print(f"{error.code}: {error.message} {error.hint}", file=sys.stderr, flush=True)
        return _GATE_MISSED if error.code == "train.gate" else 1
    finally:
        pool.close()
    return 0


def _trainer(options: argparse.Namespace, recipe: Recipe, pool: CodecPool) -> Trainer:
    cuda = torch.cuda.is_available() and not options.cpu
    device = torch.device("cuda" if cuda else "cpu")
    torch.backends.cudnn.benchmark = True
    # What is float32 is pixels, and few: bfloat16 does the work.
    torch.backends.cudnn.allow_tf32 = False
    budget = float(options.steps) if options.steps else options.total_minutes * 60
    trainer = Trainer(
        recipe,
        Schedule(recipe, budget),
        load_pictures(recipe, options.data, options.work, device),
        pool,
        device,
        seed=options.seed,
        patient=options.steps is not None,
        compiled=options.compile,
    )
    checkpoint = options.work / "checkpoint.pt"
    if checkpoint.exists():
        trainer.load(checkpoint)
    elif options.start is not None:
        trainer.start_from(options.start)
    return trainer


if __name__ == "__main__":
    raise SystemExit(main())
