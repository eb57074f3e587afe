"""The replay: dead letters of one reason are tried again, and what comes of it takes their place.

Run it as `python -m jobs.replay` or `reelsight replay`, when the cause is mended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.tagging import ShardWork, tag_shards
from jobs.work import marks_of, planned
from reelsight.cli import options
from reelsight.cli.console import live_line, print_json, run_app, show_run
from reelsight.settings import Settings
from reelsight.store.location import Location
from reelsight.store.run import RunRecord, plain

if TYPE_CHECKING:  # Ray takes a second to import; `--help` should not.
    from ray.data import Dataset

    from reelsight.rayx.cluster import Widths
    from reelsight.rayx.source import ShardSource

__all__ = ["command", "replay"]


def replay(
    output: Location,
    reason: str,
    settings: Settings,
    *,
    run_id: str | None = None,
) -> RunRecord:
    """Tag the clips again that are dead letters of a reason, in the run that has them.

    Where the run read marks, beside tags or alone, they are read again as well.

    Args:
        output: Directory of runs, or `s3://bucket/prefix`.
        reason: Code of the dead letters, such as `fetch.not_found`.
        settings: As of the run: what decides a Report must be the same.
        run_id: Which run; None for the newest.

    Returns:
        The run's record, with what became of them.

    Raises:
        RunConflict: The run was decided by other versions.
        QueryError: There is no such run, or it has no such dead letters.
    """
    from reelsight.store.replay import Replay
    from reelsight.store.runs import RunStore

    run = RunStore(output).newest(run_id)
    work = planned(settings, marks_of(run.plan.decided))
    run.plan.require_same(work.plan.decided | run.plan.retag, run.plan.manifest)

    def reports(source: ShardSource, widths: Widths) -> Dataset:
        return work.dataset(source, settings, widths)

    again = Replay(run, reason)
    again.require()
    try:
        # All of them were dead before: nothing is learnt from how many stay so.
        shards = ShardWork(run, again.inputs, reports, again.commit, max_dead_share=1.0)
        tag_shards(shards, settings)
    finally:
        again.close()
    return run.record()


def command(
    output: options.RunsArgument,
    reason: Annotated[str, typer.Option("--reason", help="Code of the dead letters.")],
    run: options.RunOption = None,
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    fps: options.FpsOption = None,
    frames: options.FramesOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Try dead letters of one reason again, with the settings of their run."""
    from reelsight.rayx.live import told_live

    settings = options.load(config, set_, model, bank, fps, frames, engine)
    with live_line() as tell, told_live(tell):
        record = replay(output, reason, settings, run_id=run)
    if json_:
        print_json(plain(record))
    else:
        show_run(record, output)


if __name__ == "__main__":
    run_app(command)
