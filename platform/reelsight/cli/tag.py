"""`reelsight tag`: tags of files, here and now, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_table
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
    worker = EngineWorker(recipe.open_engine, max_queued_frames=settings.engine.max_queued_frames)
    failed = False
    reports = []
    try:
        runner = SequentialRunner(plan, worker.host)
        for report in runner.run(ClipRequest(uri, uri) for uri in _expand(paths)):
            failed |= report.failure is not None
            if json_:
                print_json(report.to_dict())
            else:
                reports.append(report)
    finally:
        worker.close()
    if not json_:
        show_table(["clip", "tags"], [(_name(r), _words(r)) for r in reports])
    if failed:
        raise typer.Exit(1)


def _expand(paths: list[str]) -> list[str]:
    """Directories become the files in them; everything else is taken as it is."""
    return [
        str(uri)
        for path in paths
        for uri in (
            sorted(p for p in Path(path).iterdir() if p.is_file() and not p.name.startswith("."))
            if Path(path).is_dir()
            else [path]
        )
    ]


def _name(report: Report) -> str:
    return report.clip.uri.rpartition("/")[2]


def _words(report: Report) -> str:
    if report.failure is not None:
        return f"FAILED {report.failure.code}: {report.failure.message}"
    lines = [
        f"{tag.label} {tag.score:.2f} "
        + ", ".join(f"{s.start_ms / 1000:.1f}-{s.end_ms / 1000:.1f} s" for s in tag.segments[:3])
        for tag in report.tags[:_SHOWN]
    ]
    return "\n".join(lines) or "(no label is on)"
