"""The scan: marks read in every clip of a manifest, and compared with the ledger where keys are.

Run it as `python -m jobs.scan_marks` or `reelsight scan-marks`. It is the backfill with an
extractor instead of the engine of the tags. Workers get no key: this process compares when they are
done, or another one does later, by `reelsight mark match`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.backfill import backfill
from reelsight.cli import options
from reelsight.cli.console import live_line, print_json, run_app, show_run
from reelsight.cli.mark_match import show_watch_list
from reelsight.cli.mark_pair import PairOption
from reelsight.settings import Settings
from reelsight.store.run import plain

__all__ = ["command"]


def command(
    manifest: Annotated[Path, typer.Argument(help="Parquet file with columns clip_id and uri.")],
    output: Annotated[
        str,
        typer.Option(
            "--out", "-o", help="Directory of runs that every node sees, or s3://bucket/prefix."
        ),
    ],
    pair: PairOption = None,
    match: Annotated[
        bool | None,
        typer.Option(
            "--match/--no-match",
            help="Compare with the ledger at the end; default where a tenant key is set.",
        ),
    ] = None,
    new: options.NewOption = False,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Read the marks of every clip of a manifest with Ray Data, and say whose copies they are."""
    from reelsight.rayx.live import told_live
    from reelsight.watchlist import directory_of, match_run

    flags = dict(options.assignment(text) for text in set_ or [])
    if pair is not None:
        flags["marks.pair"] = str(pair)
    settings = Settings.load(config, flags)
    keyed = settings.marks.key is not None or settings.marks.key_file is not None
    matched = keyed if match is None else match
    if matched:
        directory_of(output)  # Refused before hours of work.
    with live_line() as tell, told_live(tell):
        record = backfill(manifest, output, settings, new=new, marks="alone")
    if json_:
        print_json(plain(record))
    else:
        show_run(record, output)
    if record.state != "complete":
        raise typer.Exit(4)
    if matched:
        show_watch_list(match_run(output, settings, record.run_id), as_json=json_)


if __name__ == "__main__":
    run_app(command)
