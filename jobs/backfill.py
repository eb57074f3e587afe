"""The backfill: every clip of a manifest becomes exactly one Report row in Parquet.

Run it as `python -m jobs.backfill`, `python jobs/backfill.py` or `reelsight backfill`. This module
composes; what happens to a clip is in `reelsight.steps`, how it is spread is in `reelsight.rayx`.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import reelsight.errors
from jobs.work import Marks, planned
from reelsight.cli import options
from reelsight.cli.console import print_json, run_app, show_run
from reelsight.errors import ReelsightError, RunError
from reelsight.settings import Settings

if TYPE_CHECKING:  # Ray takes a second to import; `--help` should not.
    from reelsight.rayx.cluster import Widths
    from reelsight.rayx.sink import Written
    from reelsight.store.run import RunRecord

__all__ = ["backfill", "command"]

_TOLD = 400
_TYPED = re.compile(r"^reelsight\.errors\.(\w+): (.+)$", re.MULTILINE)
_ANY = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Warning): .+$", re.MULTILINE)


def backfill(
    manifest_path: Path,
    output: Path,
    settings: Settings,
    *,
    progress: bool = False,
    marks: Marks = "no",
) -> RunRecord:
    """Tag every clip of a manifest into an output directory.

    Args:
        manifest_path: Parquet with clip_id, uri and any further columns.
        output: Directory of runs; every node of the cluster must see it under this path.
        settings: What to do and how wide.
        progress: Whether to show Ray Data's progress bars.
        marks: Whether marks are read: `beside` the tags, from one decode, or `alone`.

    Returns:
        The run's record; its state is `complete` only if every row has exactly one Report.

    Raises:
        ReelsightError: The run could not start, or an engine broke; the record, if one was begun,
            says so.
        RunError: The cluster broke.
    """
    from reelsight.rayx.cluster import ray_session
    from reelsight.rayx.sink import ReportSink
    from reelsight.store.manifest import Manifest
    from reelsight.store.run import RunRecord, RunStore, new_run_id

    manifest = Manifest.open(manifest_path)
    work = planned(settings, marks)
    plan = work.plan
    store = RunStore(output)
    record = RunRecord(
        run_id=new_run_id(plan.digest),
        state="running",
        config={
            "manifest": str(manifest_path),
            "manifest_rows": manifest.rows,
            "provenance": asdict(plan.provenance),
            "settings": settings.for_workers().model_dump(mode="json"),
            **work.marks_config(),
        },
    )
    store.save(record)
    try:
        with ray_session(settings, progress=progress) as widths:
            started = time.perf_counter()
            sink = ReportSink(output.absolute(), record.run_id)
            work.dataset(manifest, settings, widths).write_datasink(sink)
            wall_s = time.perf_counter() - started
        record = replace(record, files=tuple(sorted(sink.written.files, key=lambda f: f.path)))
        problems = store.problems(record, manifest.clip_ids)
    except Exception as error:  # Boundary: whatever ended the run, its record must say so.
        failure = _cause(error, record.run_id)
        store.save(replace(record, state="failed", problems=(failure.message,)))
        raise failure from error
    record = replace(
        record,
        state="unbalanced" if problems else "complete",
        summary=_summary(sink.written, manifest.rows, wall_s, widths),
        problems=problems,
    )
    store.save(record)
    return record


def _cause(error: Exception, run_id: str) -> ReelsightError:
    """What ended a run, in its own words.

    Ray carries a worker's error home wrapped several times over, its chain as text.
    """
    if isinstance(error, ReelsightError) and not hasattr(error, "cause"):
        return error
    text = str(error)
    for name, message in reversed(_TYPED.findall(text)):
        if kind := getattr(reelsight.errors, name, None):
            typed: ReelsightError = kind(message)
            return typed
    first = _ANY.search(text)
    told = first[0] if first else f"{type(error).__name__}: {' '.join(text.split())}"
    return RunError(f"run {run_id} broke: {told[:_TOLD]}")


def _summary(written: Written, clips: int, wall_s: float, widths: Widths) -> dict[str, Any]:
    """Sums and rates; the limiting stage is the one whose slots were busy for the largest share."""
    costs = written.costs
    slots = {
        "fetch+decode": (costs["fetch_s"] + costs["decode_s"], widths.decoders),
        "engine": (costs["engine_s"], widths.engines),
        "report": (costs["report_s"], widths.decoders),
    }
    busy = {stage: seconds / n / wall_s for stage, (seconds, n) in slots.items()}
    return {
        "clips": clips,
        "tagged": written.rows["tagged"],
        "dead": written.rows["dead"],
        "frames": written.frames,
        "wall_s": round(wall_s, 3),
        "clips_per_s": round(clips / wall_s, 3),
        "frames_per_s": round(written.frames / wall_s, 3),
        "busy": {stage: round(share, 3) for stage, share in busy.items()},
        "limiting_stage": max(busy, key=lambda stage: busy[stage]),
        "seconds": {name: round(value, 3) for name, value in sorted(costs.items())},
        "failures": dict(written.failures.most_common()),
    }


def command(
    manifest: options.ManifestOption,
    output: options.OutputOption,
    model: options.ModelOption = None,
    bank: options.BankOption = None,
    fps: options.FpsOption = None,
    frames: options.FramesOption = None,
    engine: options.EngineOption = None,
    config: options.ConfigOption = None,
    set_: options.SetOption = None,
    marks: Annotated[
        bool, typer.Option("--marks", help="Also read marks, by marks.pair, from the same decode.")
    ] = False,
    json_: options.JsonOption = False,
) -> None:
    """Tag every clip of a manifest with Ray Data; one Report row a clip lands in Parquet."""
    from reelsight.cli.console import is_terminal

    settings = options.load(config, set_, model, bank, fps, frames, engine)
    wanted: Marks = "beside" if marks else "no"
    record = backfill(manifest, output, settings, progress=is_terminal(), marks=wanted)
    if json_:
        print_json(asdict(record))
    else:
        show_run(record, output)
    if record.state != "complete":
        raise typer.Exit(4)


if __name__ == "__main__":
    run_app(command)
