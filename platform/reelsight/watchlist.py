"""The watch list of a run: its soft bits compared with the ledger, where the tenant keys are.

Workers read marks and know no key; this knows keys and sees no pixel. Whoever is named in a run is
the best of all its clips, so p-values count them, and a clip alone needs less to be named than one
of a million. The answers lie beside the run, for their owner alone:

    verdicts/<run id>.parquet
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reelsight.atomic import write_whole
from reelsight.errors import ConfigError, MarkError, QueryError, RunError, StoreError
from reelsight.marks.account import Circumstances
from reelsight.marks.inquiry import Inquiry, open_tracer, sound_head
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger import open_store
from reelsight.marks.tracing import Tracer
from reelsight.nouns.mark import Carrier
from reelsight.nouns.mark_reading import reading_from
from reelsight.nouns.mark_trace import LedgerHead, ModelUse, Suspect, Trace
from reelsight.nouns.watch_answer import WATCH_SCHEMA, WatchAnswer, watch_table
from reelsight.settings import Settings
from reelsight.store.location import Location, is_s3
from reelsight.store.location import told as address
from reelsight.store.run import Run
from reelsight.store.runs import RunStore

__all__ = ["Question", "WatchList", "directory_of", "match_run"]

# Soft bits of one clip take up to a few hundred kB.
_CLIPS_AT_ONCE = 64
_FACTS = ["marks.extractor_sha256", "marks.error.code"]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a ledger.

    Attributes:
        received_at: When the clips came in, as `utc_text` writes it: later copies are out. None for
            when the run began to read them.
        asset: Copies of this asset alone.
        segment_s: Rotating pads of such segments, seconds; None for static codes.
        tried_before: Views of each clip that were tried in traces before.
        heads: Heads of the ledger that were kept elsewhere.
    """

    received_at: str | None = None
    asset: str | None = None
    segment_s: float | None = None
    tried_before: int = 0
    heads: Sequence[LedgerHead] = ()


@dataclass(frozen=True, slots=True)
class WatchList:
    """What came of it.

    Attributes:
        run_id: The run.
        path: Where the answers lie.
        clips: Clips that were compared; each p-value counts them all.
        verdicts: Clips by verdict, and by the code of why they were not read.
        found: Answers that name or suspect somebody, or a foreign mark.
    """

    run_id: str
    path: Path
    clips: int
    verdicts: dict[str, int]
    found: tuple[WatchAnswer, ...]


def match_run(
    output: Location,
    settings: Settings,
    run_id: str | None = None,
    question: Question = Question(),
    told: Callable[[Trace], None] = lambda trace: None,
) -> WatchList:
    """Compare every clip of a run with the ledger, and write the answers beside the run.

    Args:
        output: Directory of runs; a run on S3 is not compared where it lies.
        settings: Keys, ledger and limits of marks.
        run_id: A run; the newest complete one when None.
        question: Which copies.
        told: Hears of each trace, which opens codes of whoever is accused.

    Raises:
        QueryError: There is no such run, or it read no marks (`store.no_marks`).
        RunError: `run.incomplete`: clips of it are not read yet, and p-values count them all.
        ConfigError: No tenant key is set; `config.no_directory`: the run lies on S3.
        MarkError: `mark.time`: nobody says when the clips came in.
        LedgerError: The ledger cannot be read, or its chain is broken: nobody is accused.
        StoreError: The run cannot be read, or the answers not written.
    """
    directory = directory_of(output)
    run = RunStore(directory).latest(run_id)
    if not run.complete:
        raise RunError(
            f"run {run.run_id} is not complete: its p-values have to count every clip",
            code="run.incomplete",
            hint="Run the same scan or backfill again, which goes on with it.",
        )
    keyring = Keyring.load(settings.marks)
    # Once: a replay may commit others meanwhile.
    paths = run.paths()
    clips = _count(run.run_id, paths)
    received = question.received_at or run.plan.began
    if received is None:
        raise MarkError(
            f"run {run.run_id} does not say when it began to read its clips",
            code="mark.time",
            hint="Give --received-at: copies that were issued later are left out.",
        )
    with open_store(settings.ledger, wait_s=settings.marks.ledger_wait_s) as ledger:
        head = sound_head(ledger, question.heads)
        tracers: dict[tuple[Carrier, int], Tracer] = {}

        def tracer_of(carrier: Carrier, bits: int) -> Tracer:
            if (carrier, bits) not in tracers:
                asked = Inquiry(carrier, bits, received, question.asset, question.segment_s)
                tracers[carrier, bits] = open_tracer(ledger, keyring, settings.marks, head, asked)
            return tracers[carrier, bits]

        def answer(row: dict[str, Any]) -> WatchAnswer:
            clip, stored = row["clip"].as_py(), row["marks"]
            names = row["clip_id"].as_py(), clip["uri"], clip["sha256"]
            if not stored.is_valid:
                return WatchAnswer(*names, error=row["code"].as_py() or "unknown")
            facts, attempts = reading_from(stored)
            if not attempts:
                return WatchAnswer(*names, error=facts["error"]["code"])
            carrier = Carrier(**facts["carrier"])
            suspect = Suspect(names[0], names[2], received, clip["size_bytes"], clip["duration_s"])
            about = Circumstances(
                models=(ModelUse.extractor(carrier, facts["extractor_sha256"], facts["engine"]),),
                tried_before=question.tried_before,
                suspects=max(clips, 1),
            )
            trace = tracer_of(carrier, attempts[0].bits).trace(suspect, attempts, about)
            told(trace)
            return WatchAnswer.of(names[0], names[1], trace)

        inquiry = {"run": run.run_id, "received_at": received, "head": asdict(head.head)}
        return _written(directory, run, clips, inquiry, map(answer, _rows(paths)))


def directory_of(output: Location) -> Path:
    """The directory that answers are written into.

    Raises:
        ConfigError: `config.no_directory`: it is an address of S3.
    """
    if is_s3(output):
        raise ConfigError(
            f"answers are written beside a run in a directory, not to {address(output)}",
            code="config.no_directory",
            hint="Copy the run into a directory and match it there; scan with --no-match.",
        )
    return Path(output)


def _written(
    output: Path,
    run: Run,
    clips: int,
    inquiry: dict[str, Any],
    answers: Iterator[WatchAnswer],
) -> WatchList:
    """Write answers as they come; the file is there whole or not at all."""
    path = output / "verdicts" / f"{run.run_id}.parquet"
    verdicts: Counter[str] = Counter()
    found, waiting, sink = [], [], pa.BufferOutputStream()
    schema = WATCH_SCHEMA.with_metadata(
        {**WATCH_SCHEMA.metadata, "reelsight.inquiry": json.dumps(inquiry, sort_keys=True)}
    )
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for answer in answers:
            waiting.append(answer)
            verdicts[answer.verdict or answer.error or "unknown"] += 1
            if answer.copies or answer.verdict == "MARKED_UNKNOWN":
                found.append(answer)
            if len(waiting) >= 4096:
                writer.write_table(watch_table(waiting).cast(schema))
                waiting.clear()
        writer.write_table(watch_table(waiting).cast(schema))
    try:
        write_whole(path, sink.getvalue(), mode=0o600)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}", code="store.unwritable") from error
    return WatchList(run.run_id, path, clips, dict(verdicts.most_common()), tuple(found))


def _count(run_id: str, paths: Sequence[str]) -> int:
    """Clips of a run in which marks were read.

    Raises:
        QueryError: `store.no_marks`: none was looked at.
    """
    count = 0
    for path in paths:
        if "marks" not in pq.read_schema(path).names:
            raise QueryError(
                f"run {run_id} has read no marks",
                code="store.no_marks",
                hint="Run `reelsight backfill --marks` or `reelsight scan-marks`.",
            )
        for batch in pq.ParquetFile(path).iter_batches(columns=_FACTS):
            marks = batch["marks"]
            read = pc.is_valid(pc.struct_field(marks, "extractor_sha256"))
            failed = pc.is_valid(pc.struct_field(marks, ["error", "code"]))
            count += pc.sum(pc.and_not(read, failed)).as_py() or 0
    return count


def _rows(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Scalars of each Report, a few clips in memory at a time."""
    columns = ["clip_id", "clip", "error", "marks"]
    for path in paths:
        file = pq.ParquetFile(path)
        for batch in file.iter_batches(batch_size=_CLIPS_AT_ONCE, columns=columns):
            code = pc.struct_field(batch["error"], "code")
            for i in range(batch.num_rows):
                own = {name: batch[name][i] for name in ("clip_id", "clip", "marks")}
                yield own | {"code": code[i]}
