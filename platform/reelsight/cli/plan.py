"""`reelsight plan`: what a backfill will take, from a sample of its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines, show_table

if TYPE_CHECKING:
    from reelsight.capacity.estimate import Estimate

__all__ = ["command"]

_SHOWN = 5


def command(
    manifest: options.ManifestOption,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Clips to measure, chosen by their ids' hashes.")
    ] = 24,
    deadline: Annotated[
        float, typer.Option("--deadline", min=0.01, help="Hours that nodes are counted for.")
    ] = 24.0,
    prices: Annotated[
        Path | None, typer.Option("--prices", help="TOML or JSON: what your nodes cost.")
    ] = None,
    gpu_rate: Annotated[
        float | None,
        typer.Option("--gpu-rate", help="Frames per second of one GPU, where none is here."),
    ] = None,
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    fps: options.FpsOption = None,
    frames: options.FramesOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Measure a sample of a manifest here; say how long, how wide and how dear all of it will be.

    `--json` prints what `reelsight backfill --plan` starts from.
    """
    from engines.catalog import recipe_for
    from reelsight.capacity.estimate import estimate
    from reelsight.capacity.prices import load_prices
    from reelsight.capacity.sample import choose, measure
    from reelsight.plan import plan_for
    from reelsight.store.manifest import Manifest

    settings = options.load(config, set_, model, bank, fps, frames, engine)
    table = load_prices(prices)
    clips = Manifest.open(manifest)
    recipe = recipe_for(settings)
    measured = measure(choose(clips, sample), plan_for(recipe, settings), recipe, settings)
    found = estimate(measured, clips.rows, table, deadline, gpu_rate)
    if json_:
        print_json(found.to_json())
    else:
        _show(found)


def _show(e: Estimate) -> None:
    m = e.measured
    show_lines(
        f"{e.clips} clips, {e.frames} frames +- {e.frames_error:.0%}",
        [
            f"measured: {m.clips} clips ({m.dead} dead), {m.total_frames} frames, "
            f"on {m.cores} cores with {m.engine}",
            f"this machine: {e.frames_per_s:.1f} frames/s, {_duration(e.hours)}; "
            f"limiting stage: {e.limiting_stage}",
            f"{e.cpus_per_engine:.1f} cores keep one {'GPU' if e.on_gpus else 'engine core'} busy",
        ],
    )
    where = "device" if m.on_gpu else "core"
    show_table(
        ["stage", "frames/s", "of one", "share"],
        [
            [
                stage,
                f"{rate:.1f}",
                where if stage == "engine" else "core",
                f"{m.seconds[stage] / sum(m.seconds.values()):.0%}",
            ]
            for stage, rate in e.stages.items()
        ],
    )
    show_table(
        ["nodes", "time", "frames/s", "$", "$ per million frames"],
        [
            [
                " + ".join(f"{count} x {name}" for name, count in fleet.nodes.items()),
                _duration(fleet.hours),
                f"{fleet.pools.frames_per_s:.0f}",
                f"{fleet.usd:.2f}",
                f"{fleet.usd_per_million:.2f}",
            ]
            for fleet in e.fleets[:_SHOWN]
        ],
        title=f"within {e.deadline_hours:g} hours, beside the head",
    )
    show_lines("prices", [e.prices])


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.0f} s"
