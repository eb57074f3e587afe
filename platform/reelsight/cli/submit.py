"""`reelsight submit`: a job of `jobs/`, run by a cluster from this directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines
from reelsight.errors import ConfigError

if TYPE_CHECKING:  # Ray takes a second to import; `--help` should not.
    from reelsight.rayx.submission import JobServer

__all__ = ["AddressOption", "command", "follow"]

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        help="The cluster's dashboard; default RAY_API_SERVER_ADDRESS, RAY_ADDRESS, this machine.",
    ),
]
_SHADOW = Path("platform", "__init__.py")
# Without it `python -m` runs nothing, and the job ends well.
_GUARD = 'if __name__ == "__main__":'


def command(
    job: Annotated[str, typer.Argument(help="A module of jobs/, such as backfill.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="What the job itself takes.", metavar="ARGUMENTS...")
    ] = None,
    address: AddressOption = None,
    working_dir: Annotated[
        Path, typer.Option("--working-dir", help="The repository; uploaded for the job.")
    ] = Path("."),
    installed: Annotated[
        bool,
        typer.Option("--installed", help="Upload nothing: the nodes have reelsight installed."),
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option("--env", help="NAME=VALUE for every process of the job; no secrets."),
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="The job's id on the cluster.")] = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Print the job's id, and leave it.")
    ] = False,
    json_: options.JsonOption = False,
) -> None:
    """Run a job on a cluster; options before the job's name are submit's, those after it the job's.

    Prints what the job prints, and ends with the job's own exit code.
    """
    name = job.replace("-", "_")
    _check(name, None if installed else working_dir)
    variables = dict(_variable(text) for text in env or [])

    from reelsight.rayx.submission import JobServer, runtime_env

    server = JobServer(address)
    told = server.submit(
        ["python", "-m", f"jobs.{name}", *(arguments or [])],
        runtime_env(None if installed else working_dir, variables),
        id_,
    )
    if no_wait:
        print_json({"job": told}) if json_ else print(told)
        return
    if not json_:
        print(f"job {told} at {server.address}", file=sys.stderr)
    raise typer.Exit(follow(server, told, json_=json_))


def follow(server: JobServer, job: str, *, json_: bool) -> int:
    """Print a job's log until it ends; returns the exit code that it ended with.

    With `json_` the log goes to the error stream, and the job's last state to the output.
    """
    stream = sys.stderr if json_ else sys.stdout

    def say(text: str) -> None:
        stream.write(text)
        stream.flush()

    try:
        state = server.follow(job, say)
    except KeyboardInterrupt:
        show_lines(
            f"job {job} goes on",
            [f"reelsight job logs {job} --follow", f"reelsight job stop {job}"],
        )
        raise
    if json_:
        print_json(state)
    elif state.status != "SUCCEEDED":
        # Ray repeats the end of the log behind the first comma.
        show_lines(f"job {job} {state.status}", [state.message.partition(", ")[0]])
    if state.status == "SUCCEEDED":
        return 0
    return state.exit_code if state.exit_code and 0 < state.exit_code < 128 else 3


def _check(name: str, working_dir: Path | None) -> None:
    """Refuse here what would end there with a stack trace, or with no word at all."""
    if working_dir is None:
        import jobs

        directory = Path(jobs.__path__[0])
    else:
        directory = working_dir / "jobs"
        if not (working_dir / "platform" / "reelsight").is_dir() or not directory.is_dir():
            raise ConfigError(
                f"{working_dir.absolute()} is not the repository of reelsight",
                code="config.working_dir",
                hint="Give --working-dir, or --installed where the nodes have it installed.",
            )
        if (working_dir / _SHADOW).exists():
            raise ConfigError(
                f"{working_dir / _SHADOW} hides Python's own module `platform`: no worker of the "
                "cluster would start",
                code="config.working_dir",
                hint="Delete it.",
            )
    there = sorted(p.stem for p in directory.glob("*.py") if _GUARD in p.read_text("utf-8"))
    if name not in there:
        raise ConfigError(
            f"there is no job {name!r}; there are {', '.join(there)}",
            code="config.unknown_job",
            hint=f"A job is a module of jobs/ with `{_GUARD}`.",
        )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"--env takes NAME=VALUE, got {text!r}")
    return name, value
