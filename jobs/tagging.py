"""One try at some shards of a run: from their clips to their commits, and a note of how it ended.

What the backfill and the replay share. Nothing that a try notes decides anything later: that is
left to the commits.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import reelsight.errors
from reelsight.errors import ReelsightError, RunError, StoreError
from reelsight.settings import Settings
from reelsight.store.commits import DataFile
from reelsight.store.run import Run, State
from reelsight.store.split import ShardInput

if TYPE_CHECKING:  # Ray takes a second to import; `--help` should not.
    from ray.data import Dataset

    from reelsight.rayx.cluster import Widths
    from reelsight.rayx.sink import Progress
    from reelsight.rayx.source import ShardSource

__all__ = ["ShardWork", "tag_shards"]

_TOLD = 400
_TYPED = re.compile(r"^reelsight\.errors\.(\w+): (.+)$(?:\ncode: (\S+)$)?", re.MULTILINE)
_ANY = re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception|Warning): .+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ShardWork:
    """What a try is to do.

    Attributes:
        run: The run.
        inputs: Clips, by shard; at least one shard.
        reports: The dataset of Reports of these clips, at these widths.
        commit: Commits the files of a shard as this attempt's; says whether the commit counts.
        max_dead_share: Above which share of dead letters to stop.
    """

    run: Run
    inputs: Sequence[ShardInput]
    reports: Callable[[ShardSource, Widths], Dataset]
    commit: Callable[[int, Sequence[DataFile], str], bool]
    max_dead_share: float


def tag_shards(work: ShardWork, settings: Settings) -> Progress:
    """Tag the clips of shards, and commit each shard as soon as it is whole.

    Raises:
        ReelsightError: What ended it; what was committed stays.
    """
    from reelsight.rayx.cluster import ray_session
    from reelsight.rayx.sink import DeadLimit, Progress, Writing, commit_shards
    from reelsight.rayx.source import ShardSource
    from reelsight.store.tally import ShardTally

    run = work.run
    attempt = run.begin()
    done = Progress()
    try:
        with ray_session(settings) as widths:
            started = time.perf_counter()
            source = ShardSource(run.objects, work.inputs)
            commit_shards(
                work.reports(source, widths),
                Writing(run.objects, run.run_id, run.plan.shards, attempt),
                ShardTally({item.shard: item.expected for item in work.inputs}),
                lambda shard, files: work.commit(shard, files, attempt),
                done,
                DeadLimit(work.max_dead_share, settings.ray.max_dead_least),
            )
            wall_s = time.perf_counter() - started
    except Exception as error:  # Boundary: whatever ended the try, its note must say so.
        failure = _cause(error, run.run_id)
        state: State = "stopped" if failure.code == "run.too_many_dead" else "failed"
        with suppress(StoreError):  # What ended the try may be the disk.
            run.note_end(attempt, state, {}, failure.message)
        raise failure from error
    run.note_end(attempt, "open", _summary(done, wall_s, widths), None)
    return done


def _cause(error: Exception, run_id: str) -> ReelsightError:
    """What ended a try, in its own words.

    Ray carries a worker's error home wrapped several times over, its chain as text.
    """
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, ReelsightError) and not hasattr(inner, "cause"):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    text = str(error)
    for name, message, code in reversed(_TYPED.findall(text)):
        if kind := getattr(reelsight.errors, name, None):
            typed: ReelsightError = kind(message, code=code or None)
            return typed
    first = _ANY.search(text)
    told = first[0] if first else f"{type(error).__name__}: {' '.join(text.split())}"
    return RunError(f"run {run_id} broke: {told[:_TOLD]}")


def _summary(done: Progress, wall_s: float, widths: Widths) -> dict[str, Any]:
    """Rates of a try; the limiting stage is the one whose slots were busy for the largest share."""
    costs = done.costs
    slots = {
        "fetch+decode": (costs["fetch_s"] + costs["decode_s"], widths.decoders),
        "engine": (costs["engine_s"], widths.engines),
        "report": (costs["report_s"], widths.decoders),
    }
    busy = {stage: seconds / n / wall_s for stage, (seconds, n) in slots.items()}
    return {
        "clips": done.clips,
        "frames": done.totals.frames,
        "wall_s": round(wall_s, 3),
        "clips_per_s": round(done.clips / wall_s, 3),
        "frames_per_s": round(done.totals.frames / wall_s, 3),
        "busy": {stage: round(share, 3) for stage, share in busy.items()},
        "limiting_stage": max(busy, key=lambda stage: busy[stage]),
        "seconds": {name: round(value, 3) for name, value in sorted(costs.items())},
        "shards": {"won": done.won, "lost": done.lost},
        "spoilt_files": done.spoilt,
    }
