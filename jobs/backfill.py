"""The backfill: every clip of a manifest becomes exactly one Report row in Parquet.

Run it as `python -m jobs.backfill`, `python jobs/backfill.py` or `reelsight backfill`, and again
after whatever ended it: it goes on where its commits end. This module composes; what happens to a
clip is in `reelsight.steps`, how it is spread is in `reelsight.rayx`, what counts is in
`reelsight.store`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.tagging import ShardWork, tag_shards
from jobs.work import Marks, planned
from reelsight.cli import options
from reelsight.cli.console import live_line, print_json, run_app, show_rates, show_run
from reelsight.settings import Settings
from reelsight.store.location import Location
from reelsight.store.objects import Objects
from reelsight.store.run import RunRecord, plain

if TYPE_CHECKING:  # Ray takes a second to import; `--help` should not.
    from ray.data import Dataset

    from reelsight.rayx.cluster import Widths
    from reelsight.rayx.source import ShardSource

__all__ = ["backfill", "command"]

_PASSES = 3


def backfill(
    manifest_path: Path,
    output: Location,
    settings: Settings,
    *,
    new: bool = False,
    marks: Marks = "no",
    objects: Objects | None = None,
) -> RunRecord:
    """Tag every clip of a manifest into an output directory, or go on with the run that does.

    Args:
        manifest_path: Parquet with clip_id, uri and any further columns.
        output: Directory of runs, which every node of the cluster must see under this path; or
            `s3://bucket/prefix`.
        settings: What to do and how wide.
        new: Start another run, whatever is there.
        marks: Whether marks are read: `beside` the tags, from one decode, or `alone`.
        objects: What the directory is made of.

    Returns:
        The run's record; every clip of a `complete` run has exactly one Report.

    Raises:
        ReelsightError: The run could not start, or an engine or the store broke; what was committed
            stays, and its record says why it ended.
        RunConflict: An unfinished run is there, of another manifest or configuration.
        RunError: The cluster broke, or too many clips are dead letters.
    """
    from reelsight.marks.times import utc_now
    from reelsight.store.manifest import Manifest
    from reelsight.store.run_plan import ManifestIdentity
    from reelsight.store.runs import RunStore

    store = RunStore(output, objects)
    identity = ManifestIdentity.of(manifest_path)
    work = planned(settings, marks)
    run = store.resume_or_start(
        work.plan.decided,
        identity,
        lambda: Manifest.open(manifest_path),
        settings.ray.shards,
        new=new,
        began=utc_now(),
    )
    if run.complete:
        return run.record()

    def reports(source: ShardSource, widths: Widths) -> Dataset:
        return work.dataset(source, settings, widths)

    for _ in range(_PASSES):
        # More than one pass only where Ray gave a task's rows twice and a shard was spoilt.
        if not (pending := run.pending()):
            break
        shards = ShardWork(run, pending, reports, run.commit, settings.ray.max_dead_share)
        tag_shards(shards, settings)
    run.finish()
    return run.record()


def command(
    manifest: options.ManifestOption,
    output: options.OutputOption,
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    fps: options.FpsOption = None,
    frames: options.FramesOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    marks: Annotated[
        bool, typer.Option("--marks", help="Also read marks, by marks.pair, from the same decode.")
    ] = False,
    new: options.NewOption = False,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Start as wide as `reelsight plan --json` said.")
    ] = None,
    json_: options.JsonOption = False,
) -> None:
    """Tag every clip of a manifest with Ray Data; one Report row a clip lands in Parquet."""
    from reelsight.rayx.live import told_live
    from reelsight.rayx.planned import as_planned

    settings = options.load(config, set_, model, bank, fps, frames, engine)
    settings, promised = as_planned(settings, plan)
    wanted: Marks = "beside" if marks else "no"
    with live_line() as tell, told_live(tell):
        record = backfill(manifest, output, settings, new=new, marks=wanted)
    if json_:
        print_json(plain(record))
    else:
        show_run(record, output)
        show_rates(record.summary, promised)
    if record.state != "complete":
        raise typer.Exit(4)


if __name__ == "__main__":
    run_app(command)
