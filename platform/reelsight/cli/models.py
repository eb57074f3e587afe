"""`reelsight models`: the models that are here."""

from __future__ import annotations

from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_table

__all__ = ["command"]


def command(
    verify: Annotated[bool, typer.Option("--verify", help="Hash the files and compare.")] = False,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """List the shipped model and those exported into the cache."""
    from engines.catalog import known_models

    settings = options.load(config)
    models = known_models(settings.cache_dir)
    if verify:
        for m in models:
            m.verify()
    if json_:
        for m in models:
            print_json(
                {
                    "name": m.name,
                    "hash": m.hash,
                    "size": m.geometry.size,
                    "mode": m.geometry.mode,
                    "dim": m.dim,
                    "licence": m.licence,
                    "directory": str(m.directory),
                }
            )
        return
    show_table(
        ["model", "hash", "input", "dim", "licence", "directory"],
        [
            (
                m.name,
                m.hash[:12],
                f"{m.geometry.size} {m.geometry.mode}",
                m.dim,
                m.licence,
                m.directory,
            )
            for m in models
        ],
    )
