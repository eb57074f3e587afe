"""`reelsight tag`: tags of files, here and now, without Ray."""

from __future__ import annotations

from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines
from reelsight.cli.paths import expand
from reelsight.nouns.report import Report

__all__ = ["command"]

_SHOWN = 5


def command(
    paths: Annotated[list[str], typer.Argument(help="Video files, directories, or uris.")],
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    fps: options.FpsOption = None,
    frames: options.FramesOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Tag clips and print one Report each; exits with 1 when a clip failed."""
    from engines.catalog import recipe_for
    from reelsight.engine import EngineWorker
    from reelsight.plan import plan_for
    from reelsight.runner import SequentialRunner
    from reelsight.steps import ClipRequest

    settings = options.load(config, set_, model, bank, fps, frames, engine)
    recipe = recipe_for(settings)
    plan = plan_for(recipe, settings)
    worker = EngineWorker(
        recipe.open_engine, recipe.spec, max_queued_frames=settings.engine.max_queued_frames
    )
    failed = False
    try:
        with SequentialRunner(plan, worker.host) as runner:
            for report in runner.run(ClipRequest(uri, uri) for uri in expand(paths)):
                failed |= report.failure is not None
                if json_:
                    print_json(report.to_dict())
                else:
                    show_lines(report.clip.uri, _words(report))
    finally:
        worker.close()
    if failed:
        raise typer.Exit(1)


def _words(report: Report) -> list[str]:
    if report.failure is not None:
        return [f"FAILED {report.failure.code}: {report.failure.message}"]
    lines = [
        f"{tag.label:<20} {tag.score:.2f}  "
        + ", ".join(f"{s.start_ms / 1000:.1f}-{s.end_ms / 1000:.1f} s" for s in tag.segments[:3])
        for tag in report.tags[:_SHOWN]
    ]
    return lines or ["no label is on"]
