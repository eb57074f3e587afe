"""`reelsight mark match`: the soft bits of a run against the ledger, where the keys are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_lines
from reelsight.cli.mark_pair import LedgerOption, kept_heads, load

if TYPE_CHECKING:
    from reelsight.nouns.watch_answer import WatchAnswer
    from reelsight.watchlist import WatchList

__all__ = ["command", "show_watch_list"]

_SHOWN = 50


def command(
    output: Annotated[str, typer.Argument(help="Output directory of a scan or backfill.")],
    run: Annotated[
        str | None, typer.Option("--run", help="A run's id; default the newest.")
    ] = None,
    asset: Annotated[
        str | None, typer.Option("--asset", help="Compare copies of this asset alone.")
    ] = None,
    received_at: Annotated[
        str | None,
        typer.Option("--received-at", help="ISO 8601; default when the run began."),
    ] = None,
    segment_s: Annotated[
        float | None,
        typer.Option("--segment-s", help="Rotating pads of such segments, seconds."),
    ] = None,
    tried_before: Annotated[
        int, typer.Option("--tried-before", min=0, help="Views tried at the clips in other traces.")
    ] = 0,
    head: Annotated[
        list[Path] | None, typer.Option("--head", help="A ledger's head that was kept elsewhere.")
    ] = None,
    ledger: LedgerOption = None,
    config: options.ConfigOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Say whose copies the clips of a run are; every p-value counts all of its clips."""
    from reelsight.marks.times import parse_time
    from reelsight.watchlist import Question, match_run

    question = Question(
        received_at=None if received_at is None else parse_time(received_at),
        asset=asset,
        segment_s=segment_s,
        tried_before=tried_before,
        heads=kept_heads(head or []),
    )
    settings = load(config, ledger)
    show_watch_list(match_run(output, settings, run, question), as_json=json_)


def show_watch_list(found: WatchList, *, as_json: bool) -> None:
    """Tell of a watch list: what was found, and where all answers lie."""
    if as_json:
        print_json({**asdict(found), "path": str(found.path)})
        return
    counts = ", ".join(f"{count} {verdict}" for verdict, count in found.verdicts.items())
    lines = [f"answers: {found.path} (for its owner alone)"]
    lines += [_line(answer) for answer in found.found[:_SHOWN]]
    if len(found.found) > _SHOWN:
        lines.append(f"... and {len(found.found) - _SHOWN} more")
    show_lines(f"{found.clips} clips compared: {counts or 'none'}", lines)


def _line(answer: WatchAnswer) -> str:
    p = answer.log10_p_adjusted
    who = ", ".join(
        f"{recipient} ({serial})"
        for recipient, serial in zip(answer.recipients, answer.copies, strict=True)
    )
    told = f"adjusted p 10^{p:.1f}" if p is not None else "nothing to compare with"
    return f"{answer.verdict}  {answer.clip_id}: {who or 'a mark of nobody here'}, {told}"
