"""`reelsight job`: what was submitted to a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_table
from reelsight.cli.submit import AddressOption, follow

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Jobs on a cluster: list, status, logs, stop.")

_COLUMNS = ("job", "status", "exit_code", "command")
JobArgument = Annotated[str, typer.Argument(help="A job's id; `reelsight job list` names them.")]


@app.command(name="list")
def list_(address: AddressOption = None, json_: options.JsonOption = False) -> None:
    """Jobs that were submitted, oldest first."""
    from reelsight.rayx.submission import JobServer

    states = JobServer(address).jobs()
    if json_:
        print_json(states)
    else:
        show_table(_COLUMNS, [[getattr(s, name) for name in _COLUMNS] for s in states])


@app.command()
def status(
    job: JobArgument, address: AddressOption = None, json_: options.JsonOption = False
) -> None:
    """How a job is."""
    from reelsight.rayx.submission import JobServer

    state = JobServer(address).state(job)
    if json_:
        print_json(state)
    else:
        show_table(_COLUMNS, [[getattr(state, name) for name in _COLUMNS]])


@app.command()
def logs(
    job: JobArgument,
    address: AddressOption = None,
    follow_: Annotated[
        bool, typer.Option("--follow", "-f", help="Until it ends, and with its exit code.")
    ] = False,
) -> None:
    """What a job has printed."""
    from reelsight.rayx.submission import JobServer

    if follow_:
        raise typer.Exit(follow(JobServer(address), job, json_=False))
    print(JobServer(address).logs(job), end="")


@app.command()
def stop(job: JobArgument, address: AddressOption = None) -> None:
    """End a job."""
    from reelsight.rayx.submission import JobServer

    ended = JobServer(address).stop(job)
    print(f"job {job} is stopped" if ended else f"job {job} had ended before")
