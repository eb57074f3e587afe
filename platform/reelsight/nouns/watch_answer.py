"""WatchAnswer: what a ledger says of one clip of a run, for whoever has the keys.

A row of a table, not the evidence: it opens no code. `reelsight mark trace` makes the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from reelsight.nouns.mark_trace import Trace, Verdict

__all__ = ["WATCH_SCHEMA", "WatchAnswer", "watch_table"]

WATCH_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("sha256", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("copies", pa.list_(pa.string())),
        pa.field("recipients", pa.list_(pa.string())),
        pa.field("log10_p_adjusted", pa.float64()),
        pa.field("joint_log10_p_adjusted", pa.float64()),
        pa.field("presence", pa.float64()),
        pa.field("view", pa.string()),
        pa.field("frames", pa.int32()),
        pa.field("rows", pa.int64()),
        pa.field("attempts", pa.int32()),
        pa.field("windows", pa.int32()),
        pa.field("suspects", pa.int64()),
        pa.field("tried_before", pa.int32()),
        pa.field("error", pa.string()),
    ],
    metadata={"reelsight.watch_version": "1"},
)


@dataclass(frozen=True, slots=True)
class WatchAnswer:
    """One clip.

    Attributes:
        clip_id: The clip.
        uri: Where it came from.
        sha256: Of its bytes, where they were read.
        verdict: As a Trace's; None where no marks could be read.
        copies: Serials of the copies that a Trace would list, the best first.
        recipients: Who got them.
        log10_p_adjusted: Of the copy that fits best, listed or not, after everything that was
            tried, the other clips among it; None where nothing was compared.
        joint_log10_p_adjusted: As a Trace's.
        presence: As a Trace's.
        view: As a Trace's.
        frames: Frames that were used.
        rows: Copies compared.
        attempts: Views compared.
        windows: Windows compared.
        suspects: Clips looked at together.
        tried_before: As a Trace's trials.
        error: Code of why no marks were read; None where they were.
    """

    clip_id: str
    uri: str
    sha256: str | None
    verdict: Verdict | None = None
    copies: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    log10_p_adjusted: float | None = None
    joint_log10_p_adjusted: float | None = None
    presence: float | None = None
    view: str | None = None
    frames: int = 0
    rows: int = 0
    attempts: int = 0
    windows: int = 0
    suspects: int = 0
    tried_before: int = 0
    error: str | None = None

    @classmethod
    def of(cls, clip_id: str, uri: str, trace: Trace) -> WatchAnswer:
        """What a Trace amounts to."""
        trials = trace.trials
        fits = [w.log10_p_adjusted for w in trace.windows if w.serial is not None]
        return cls(
            clip_id=clip_id,
            uri=uri,
            sha256=trace.suspect.sha256,
            verdict=trace.verdict,
            copies=tuple(one.source.serial for one in trace.accused),
            recipients=tuple(one.source.recipient for one in trace.accused),
            log10_p_adjusted=min(fits, default=None),
            joint_log10_p_adjusted=trace.joint_log10_p_adjusted,
            presence=trace.presence,
            view=trace.view,
            frames=sum(frame.weight > 0 for frame in trace.frames),
            rows=trials.rows,
            attempts=trials.attempts,
            windows=trials.windows,
            suspects=trials.suspects,
            tried_before=trials.tried_before,
        )


def watch_table(answers: Sequence[WatchAnswer]) -> pa.Table:
    """Answers as rows of WATCH_SCHEMA."""
    return pa.Table.from_pylist([asdict(answer) for answer in answers], WATCH_SCHEMA)
