"""The retag: the stored embeddings of a run, scored by another bank, as a run of its own.

Run it as `python -m jobs.retag` or `reelsight retag`, and again after whatever ended it. No clip is
fetched or decoded and no engine is opened: a new label costs its text embedding and one pass over
the rows. What counts is in `reelsight.store`, how a row is scored in `reelsight.tagging`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

import reelsight
from jobs.tagging import ShardWork, tag_shards
from reelsight.cli import options
from reelsight.cli.console import (
    live_line,
    print_json,
    run_app,
    show_lines,
    show_run,
    show_table,
)
from reelsight.errors import BankError
from reelsight.nouns.label_bank import LabelBank
from reelsight.settings import Settings
from reelsight.store.location import Location
from reelsight.store.objects import Objects
from reelsight.store.run import Run, plain
from reelsight.store.split import ShardInput
from reelsight.tagging import MOVED, Rescoring, TagDifference

if TYPE_CHECKING:  # Ray takes a second to import; `--help` should not.
    from ray.data import Dataset

    from reelsight.rayx.cluster import Widths
    from reelsight.rayx.source import ShardSource

__all__ = ["Retagged", "command", "difference", "retag"]

_PASSES = 3


@dataclass(frozen=True, slots=True)
class Retagged:
    """What a retag ends with.

    Attributes:
        source: The run that was re-scored.
        run: The new one, complete.
        bank: Its bank.
    """

    source: Run
    run: Run
    bank: LabelBank


def retag(
    output: Location,
    settings: Settings,
    *,
    run_id: str | None = None,
    new: bool = False,
    objects: Objects | None = None,
) -> Retagged:
    """Score all that a run has stored by the bank of the settings, or go on with the run that does.

    Args:
        output: Directory of runs, the old one's and the new one's; or `s3://bucket/prefix`.
        settings: The bank, and how wide.
        run_id: The run that is re-scored; None for the newest complete one.
        new: Start another run, whatever is there.
        objects: What the directory is made of.

    Returns:
        The run that was re-scored, and the one that has become complete.

    Raises:
        BankError: `bank.missing`; `bank.other_model`: the embeddings are another model's;
            `bank.unchanged`: the run was tagged by this bank.
        RunConflict: An unfinished run is there that is bound to something else; or the run is not
            complete, or has no embeddings.
        QueryError: There is no such run.
        ReelsightError: The store or the cluster broke; what was committed stays.
    """
    from reelsight.store.retag import decided_by, source_of
    from reelsight.store.runs import RunStore

    store = RunStore(output, objects)
    bank = _bank_of(settings, store.latest(run_id))
    rescoring = Rescoring(bank, reelsight.__version__)
    source = source_of(store, rescoring.stamp["bank_hash"], run_id)
    _require_fit(bank, source)
    run = store.resume_or_repeat(decided_by(source, rescoring.stamp), source, new=new)
    for _ in range(_PASSES):
        # More than one pass only where Ray gave a task's rows twice and a shard was spoilt.
        if not (pending := run.pending()):
            break
        reports = partial(_reports, source, pending, rescoring)
        # Dead letters are the old run's: nothing is learnt from how many there are.
        tag_shards(ShardWork(run, pending, reports, run.commit, max_dead_share=1.0), settings)
    if not run.complete:
        run.finish()
    return Retagged(source, run, bank)


def difference(done: Retagged, keep: int) -> TagDifference:
    """What the bank changed, summed up shard by shard from what both runs have committed.

    Args:
        done: The runs.
        keep: How many of the most changed clips to name.
    """
    from reelsight.store.retag import shown_by

    found = TagDifference((label.name for label in done.bank.labels), keep)
    # Of the same shards, in order of shard.
    for before, after in zip(done.source.log.all(), done.run.log.all(), strict=True):
        found.add(shown_by(done.source, before.files), shown_by(done.run, after.files))
    return found


def _bank_of(settings: Settings, source: Run) -> LabelBank:
    """The bank of the settings, from the shelf, a file, or the shipped model; opens no engine.

    Raises:
        BankError: None is named, or it is not there.
    """
    from engines.catalog import EMBEDDED_MODEL, find_model
    from reelsight.labels import BANK_SUFFIX, BankShelf, load_bank

    model_hash = source.plan.decided.get("model_hash")
    if settings.bank is None:
        raise BankError(
            "no bank is named to retag by",
            code="bank.missing",
            hint="Name one with --bank; `reelsight bank list` says which there are.",
        )
    own = load_bank(
        find_model(EMBEDDED_MODEL, settings.cache_dir).directory / f"labels{BANK_SUFFIX}"
    )
    if (settings.bank, model_hash) == (own.name, own.model_hash):
        return own
    return BankShelf(settings.banks_dir).find(settings.bank, model_hash=model_hash)


def _require_fit(bank: LabelBank, source: Run) -> None:
    decided = source.plan.decided
    bank.require_model(decided["model"], decided["model_hash"])
    if bank.hash == decided["bank_hash"]:
        raise BankError(
            f"run {source.run_id} was tagged by bank {bank.name!r} ({bank.hash[:12]}) already",
            code="bank.unchanged",
            hint="Name another bank with --bank, or another run with --run.",
        )


def _reports(
    source: Run,
    pending: Sequence[ShardInput],
    rescoring: Rescoring,
    clips: ShardSource,
    widths: Widths,
) -> Dataset:
    """Re-scored Reports of some shards; the clips themselves are not asked for."""
    from reelsight.rayx.rescoring import rescore_dataset
    from reelsight.store.retag import stored_files

    del clips
    files = stored_files(source, [item.shard for item in pending])
    return rescore_dataset(source.objects, files, rescoring, widths)


def command(
    output: options.RunsArgument,
    bank: options.BankOption = None,
    run: options.RunOption = None,
    new: options.NewOption = False,
    clips: Annotated[
        int, typer.Option("--clips", min=0, help="Name this many of the most changed clips.")
    ] = 10,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    json_: options.JsonOption = False,
) -> None:
    """Score a run's stored embeddings by another bank, decoding nothing, and say what changed."""
    from reelsight.rayx.live import told_live

    settings = options.load(config, set_, bank=bank)
    with live_line() as tell, told_live(tell):
        done = retag(output, settings, run_id=run, new=new)
    found = difference(done, clips)
    record = done.run.record()
    if json_:
        print_json(plain(record) | {"retag": _document(done, found)})
    else:
        show_run(record, output)
        _show(f"{done.source.run_id} -> {record.run_id}", found)


def _document(done: Retagged, found: TagDifference) -> dict[str, Any]:
    """The difference for JSON."""
    return {
        "before": _told(done.source),
        "after": _told(done.run),
        "clips": found.clips,
        "clips_changed": found.changed,
        "clips_apart": found.apart,
        "moved_by": MOVED,
        "labels": [
            {"label": d.label, "in_bank": d.in_bank, **asdict(d.changes)} for d in found.labels
        ],
        "most_changed": [asdict(clip) for clip in found.most],
    }


def _told(run: Run) -> dict[str, Any]:
    return {"run_id": run.run_id} | {n: run.plan.decided[n] for n in ("bank", "bank_hash")}


def _show(runs: str, found: TagDifference) -> None:
    """The difference for people."""
    told = [d for d in found.labels if d.changes.gained or d.changes.lost or d.changes.moved]
    lines = [f"{len(found.labels) - len(told)} of {len(found.labels)} labels did not change"]
    if not all(d.in_bank for d in told):
        lines.append("labels in brackets are not in the new bank")
    if any(d.changes.moved for d in told):
        lines.append(f"moved: shown by both, with score or coverage {MOVED} or more apart")
    if found.apart:
        lines.append(f"{found.apart} clips are tagged in one of the runs only, and not compared")
    show_lines(f"{runs}: {found.changed} of {found.clips} tagged clips changed", lines)
    if not told:
        return
    show_table(
        ["label", "before", "after", "gained", "lost", "moved"],
        [(d.label if d.in_bank else f"({d.label})", *asdict(d.changes).values()) for d in told],
        title="clips by label",
    )
    if found.most:
        columns = ["clip_id", "gained", "lost", "moved"]
        rows = [(c.clip_id, c.gained, c.lost, c.moved) for c in found.most]
        show_table(columns, rows, title="most changed")


if __name__ == "__main__":
    run_app(command)
