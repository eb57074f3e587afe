"""`reelsight runs` and `reelsight verify`: what became of runs, and whether it is true."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from reelsight.cli import options
from reelsight.cli.console import print_json, show_error, show_lines, show_table

if TYPE_CHECKING:
    from reelsight.store.run import RunRecord
    from reelsight.store.verify import Verification

__all__ = ["runs", "verify"]

_GARBAGE = 10


def runs(output: options.RunsArgument, json_: options.JsonOption = False) -> None:
    """List runs: state, clips, rate and dead letters by reason; --json prints one a line."""
    from reelsight.errors import StoreError
    from reelsight.store.run import plain
    from reelsight.store.runs import RunStore

    store = RunStore(output)
    records: list[RunRecord] = []
    damaged: list[tuple[str, StoreError]] = []
    for run_id in store.ids():
        try:
            records.append(store.open(run_id).record())
        except StoreError as error:
            # One run that is damaged hides no other.
            damaged.append((run_id, error))
    for name, why in damaged:
        show_error(StoreError(f"{name}: {why.message}", code=why.code, hint=why.hint))
    if json_:
        for record in records:
            print_json(plain(record))
        return
    columns = ["run", "state", "shards", "tagged", "dead", "pending", "tries", "clips/s"]
    show_table(
        columns,
        [
            (
                r.run_id,
                r.state,
                f"{r.committed} of {r.shards}",
                r.tagged,
                r.dead,
                r.pending,
                r.tries,
                r.summary.get("clips_per_s"),
            )
            for r in records
        ],
    )
    for record in records:
        lines = [f"{count} x {code}" for code, count in record.failures.items()]
        lines += [record.problem] if record.problem and record.state != "complete" else []
        if lines:
            show_lines(record.run_id, lines)


def verify(
    output: options.RunsArgument, run: options.RunOption = None, json_: options.JsonOption = False
) -> None:
    """Prove that manifest = tagged + dead + pending, and that every byte is as it was written.

    Exit codes: 0 complete, 1 sound but clips are pending, 4 damaged.
    """
    from reelsight.store.runs import RunStore
    from reelsight.store.verify import verify as check

    found = check(RunStore(output).newest(run))
    if json_:
        print_json(asdict(found) | {"state": found.state})
    else:
        _show(found)
    raise typer.Exit({"complete": 0, "pending": 1, "damaged": 4}[found.state])


def _show(found: Verification) -> None:
    sums = f"{found.rows} = {found.tagged} tagged + {found.dead} dead + {found.pending} pending"
    lines = [f"{found.files} files hashed; manifest: {found.manifest}"]
    lines += [f"{f.code}: {f.where}: {f.message}" for f in found.findings]
    if found.garbage:
        lines.append(
            f"{len(found.garbage)} files count for nothing; delete them when no driver works:"
        )
        lines += [f"  {name}" for name in found.garbage[:_GARBAGE]]
    show_lines(f"run {found.run_id} is {found.state}: {sums}", lines)
