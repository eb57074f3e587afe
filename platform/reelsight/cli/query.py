"""`reelsight query`: SQL over what a backfill wrote."""

from __future__ import annotations

from typing import Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_table

__all__ = ["command"]

_SHOWN = 200


def command(
    output: options.RunsArgument,
    sql: Annotated[
        str,
        typer.Argument(
            help="SQL over clips, tags, frames, dead_letters, marks, verdicts and reports."
        ),
    ],
    run: options.RunOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Run SQL over the newest complete run; --json prints one object a row."""
    from reelsight.store.query import query

    result = query(output, sql, run_id=run, limit=None if json_ else _SHOWN)
    if json_:
        for row in result.rows:
            print_json(dict(zip(result.columns, row, strict=True)))
        return
    show_table(result.columns, result.rows)
    if result.more:
        print(f"... and more; the first {_SHOWN} rows are shown, --json prints all")
