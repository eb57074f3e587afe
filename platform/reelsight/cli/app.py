"""The `reelsight` command."""

from __future__ import annotations

from typing import Annotated

import typer

import reelsight
from jobs.backfill import command as backfill
from jobs.replay import command as replay
from jobs.retag import command as retag
from jobs.scan_marks import command as scan_marks
from reelsight.cli import (
    bank,
    decode,
    doctor,
    engine,
    job,
    keys,
    ledger,
    mark,
    models,
    plan,
    probe,
    query,
    runs,
    samples,
    serve,
    submit,
    tag,
    top,
)
from reelsight.cli.console import run_app

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Tags for short videos: frames, labels, times.",
)
app.command(name="tag")(tag.command)
app.command(name="backfill")(backfill)
app.command(name="replay")(replay)
app.command(name="retag")(retag)
app.command(name="scan-marks")(scan_marks)
app.command(name="runs")(runs.runs)
app.command(name="verify")(runs.verify)
app.command(name="plan")(plan.command)
app.command(
    name="submit",
    # What comes behind the job's name is the job's.
    context_settings={"allow_interspersed_args": False},
)(submit.command)
app.add_typer(job.app, name="job")
app.command(name="serve")(serve.command)
app.command(name="top")(top.command)
app.command(name="query")(query.command)
app.add_typer(bank.app, name="bank")
app.add_typer(engine.app, name="engine")
app.add_typer(mark.app, name="mark")
app.add_typer(ledger.app, name="ledger")
app.add_typer(keys.app, name="keys")
app.command(name="models")(models.command)
app.command(name="samples")(samples.samples)
app.command(name="manifest")(samples.manifest)
app.command(name="probe")(probe.command)
app.command(name="decode")(decode.command)
app.command(name="doctor")(doctor.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"reelsight {reelsight.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    del version


def main() -> None:
    """Entry point of the console script."""
    run_app(app)


if __name__ == "__main__":
    main()
