"""`reelsight models`: the models that are here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_table
from reelsight.errors import ModelError

if TYPE_CHECKING:
    from engines.catalog import KnownModel

__all__ = ["command"]


def command(
    verify: Annotated[bool, typer.Option("--verify", help="Hash the files and compare.")] = False,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """List the shipped model and those exported into the cache; exits with 1 if one is damaged."""
    from engines.catalog import known_models

    settings = options.load(config)
    rows = [_facts(known, verify) for known in known_models(settings.cache_dir)]
    if json_:
        for row in rows:
            print_json(row)
    else:
        show_table(
            ["model", "hash", "input", "dim", "reads", "licence", "directory"],
            [_cells(row) for row in rows],
        )
    if any("problem" in row for row in rows):
        raise typer.Exit(1)


def _facts(known: KnownModel, verify: bool) -> dict[str, Any]:
    model, problem = known.model, known.problem
    if model is not None and verify:
        try:
            model.verify()
        except ModelError as error:
            problem = error
    if model is None or problem is not None:
        found = problem or ModelError("it cannot be read")
        return {
            "name": known.directory.name,
            "directory": str(known.directory),
            "problem": {"code": found.code, "message": found.message},
        }
    return {
        "name": model.name,
        "hash": model.hash,
        "size": model.geometry.size,
        "mode": model.geometry.mode,
        "dim": model.dim,
        "text": model.words is not None,
        "licence": model.licence,
        "directory": str(model.directory),
    }


def _cells(row: dict[str, Any]) -> tuple[Any, ...]:
    if "problem" in row:
        return (row["name"], "", "", "", "", row["problem"]["message"], row["directory"])
    return (
        row["name"],
        row["hash"][:12],
        f"{row['size']} {row['mode']}",
        row["dim"],
        "pictures and text" if row["text"] else "pictures",
        row["licence"],
        row["directory"],
    )
