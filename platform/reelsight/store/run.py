"""Run: one run's plan, its commits, and how it becomes complete.

runs/<id>/plan.json              what the run is bound to; there is no run without it
runs/<id>/input/*.arrow          the manifest, split into shards
runs/<id>/commits/<shard>.<generation>.json
runs/<id>/attempts/<n>.json      each try of a driver, and <n>.end.json how it ended
runs/<id>/_SUCCESS               once: every shard is committed, and inputs = tagged + dead
data/<id>/<shard>/<attempt>-<part>.<status>.parquet
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from reelsight.errors import RunError, StoreError
from reelsight.store.commits import Commit, CommitLog, DataFile, Totals, commit_of
from reelsight.store.objects import Objects
from reelsight.store.run_plan import RunPlan
from reelsight.store.sealed import seal, unseal
from reelsight.store.split import ShardInput

__all__ = ["Run", "RunRecord", "State", "plain"]

State = Literal["open", "complete", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is known of a run.

    Attributes:
        run_id: Number and digest.
        state: `complete` once `_SUCCESS` is there; else how the last try ended, or `open`: it works
            still, or was killed.
        rows: Clips of the manifest.
        tagged: Clips that are.
        dead: Dead letters.
        frames: Frames embedded.
        failures: Dead letters by code.
        shards: Shards that have clips.
        committed: Those that are done.
        tries: How often a driver was started on it.
        manifest: Its path.
        summary: Rates of the last try that ended.
        problem: Why the last try failed or stopped.
    """

    run_id: str
    state: State
    rows: int
    tagged: int
    dead: int
    frames: int
    failures: dict[str, int]
    shards: int
    committed: int
    tries: int
    manifest: str
    summary: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None

    @property
    def pending(self) -> int:
        """Clips without a Report."""
        return self.rows - self.tagged - self.dead


class Run:
    """One run of an output directory.

    Args:
        objects: Where it lies.
        plan: What it is bound to.
    """

    def __init__(self, objects: Objects, plan: RunPlan) -> None:
        self.objects = objects
        self.plan = plan
        self.run_id = plan.run_id
        self.log = CommitLog(objects, plan.run_id)
        self._prefix = f"runs/{plan.run_id}"

    @property
    def complete(self) -> bool:
        """Whether every clip has its Report: `_SUCCESS` says so, and no commit is gone since."""
        return self.success() is not None and not self.pending()

    def success(self) -> dict[str, Any] | None:
        """What `_SUCCESS` says; None as long as it is not there.

        Raises:
            StoreError: `store.success_damaged`.
        """
        content = self.objects.read(f"{self._prefix}/_SUCCESS")
        try:
            return None if content is None else unseal(content)
        except ValueError as error:
            raise StoreError(
                f"_SUCCESS of run {self.run_id} is damaged: {error}",
                code="store.success_damaged",
                hint="Remove it and run the backfill again, which counts the commits anew.",
            ) from error

    def pending(self) -> list[ShardInput]:
        """Shards without a commit, in order."""
        done = self.log.heads()
        return [item for item in self.plan.inputs if item.shard not in done]

    def commit(self, shard: int, files: Sequence[DataFile], attempt: str) -> bool:
        """Commit a whole shard; says whether this commit counts."""
        return self.log.offer(commit_of(self.run_id, shard, 0, attempt, files))

    def finish(self) -> Totals:
        """Write `_SUCCESS`, if every clip has its Report and nobody wrote it yet.

        Raises:
            RunError: `run.incomplete`: shards are missing, or the sums do not add up.
        """
        # What this driver sees of another's commits may not be durable yet.
        self.log.settle()
        totals, rows, shards = Totals(), 0, 0
        for commit in self.log.all():
            totals += commit.totals
            rows += commit.rows
            shards += 1
        if rows != self.plan.rows or totals.tagged + totals.dead != rows:
            raise RunError(
                f"run {self.run_id}: {self.plan.rows} clips, but {rows} rows in {shards} of "
                f"{len(self.plan.inputs)} shards, {totals.tagged} tagged and {totals.dead} dead",
                code="run.incomplete",
                hint="Run the same command again; if it stays, `reelsight verify` says more.",
            )
        document = {"run_id": self.run_id, "inputs": rows, "shards": shards}
        self.objects.create(
            f"{self._prefix}/_SUCCESS",
            seal(document | {"tagged": totals.tagged, "dead": totals.dead}),
        )
        return totals

    def commits(self) -> list[Commit]:
        """The commits that count, in order of shard."""
        return list(self.log.all())

    def paths(self) -> list[str]:
        """Data files that count, as people find them; on a disk, as Arrow and DuckDB open them."""
        return [self.objects.path(f.path) for commit in self.log.all() for f in commit.files]

    def begin(self) -> str:
        """Number this try of a driver; its name is part of every file's that it writes."""
        taken = len(self.objects.children(f"{self._prefix}/attempts"))
        while True:
            taken += 1
            attempt = f"{taken:04d}"
            name = f"{self._prefix}/attempts/{attempt}.json"
            if self.objects.create(name, seal({"attempt": attempt})):
                return attempt

    def note_end(
        self, attempt: str, state: State, summary: dict[str, Any], problem: str | None
    ) -> None:
        """Note how a try ended; nothing is decided by it."""
        document = {"state": state, "summary": summary, "problem": problem}
        self.objects.create(f"{self._prefix}/attempts/{attempt}.end.json", seal(document))

    def record(self) -> RunRecord:
        """What is known of the run."""
        totals = Totals()
        heads = self.log.heads()
        for shard, generation in heads.items():
            totals += self.log.read(shard, generation).totals
        tries, last = self._tries()
        return RunRecord(
            run_id=self.run_id,
            state="complete" if self.complete else last.get("state", "open"),
            rows=self.plan.rows,
            tagged=totals.tagged,
            dead=totals.dead,
            frames=totals.frames,
            failures=dict(totals.failures),
            shards=len(self.plan.inputs),
            committed=len(heads),
            tries=tries,
            manifest=self.plan.manifest.path,
            summary=last.get("summary", {}),
            problem=last.get("problem"),
        )

    def _tries(self) -> tuple[int, dict[str, Any]]:
        """How many tries there were, and how the last one ended, if it did."""
        names = self.objects.children(f"{self._prefix}/attempts")
        begun = sorted(n.removesuffix(".json") for n in names if n.count(".") == 1 and n[0] != ".")
        if not begun:
            return 0, {}
        content = self.objects.read(f"{self._prefix}/attempts/{begun[-1]}.end.json")
        try:
            return len(begun), {} if content is None else unseal(content)
        except ValueError:
            # It is for people alone: a damaged note is no note.
            return len(begun), {}


def plain(record: RunRecord) -> dict[str, Any]:
    """A record for JSON."""
    return asdict(record) | {"pending": record.pending}
