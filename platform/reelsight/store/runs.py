"""RunStore: the runs of one output directory; which one a command goes on with, starts or reads.

Runs are numbered in the order in which they were started. No clock decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from reelsight.errors import ManifestError, QueryError, StoreError
from reelsight.store.location import Location, told
from reelsight.store.manifest import Manifest
from reelsight.store.objects import Objects, open_objects
from reelsight.store.run import Run
from reelsight.store.run_plan import ManifestIdentity, RunPlan
from reelsight.store.split import copy_split, split_manifest

__all__ = ["RunStore"]

_CLIPS_PER_SHARD = 1024
_MAX_SHARDS = 65_536


class RunStore:
    """The runs of one output directory.

    Args:
        root: The directory, made when the first run starts; or `s3://bucket/prefix`.
        objects: What it is made of.

    Raises:
        StoreError: `store.no_conditional_create`: runs cannot be committed there.
    """

    def __init__(self, root: Location, objects: Objects | None = None) -> None:
        self.name = told(root)
        self.objects = objects or open_objects(root)

    def ids(self) -> list[str]:
        """Every run, oldest first; a driver that was killed before its plan was there left none."""
        found = [name for name in self.objects.children("runs") if not name.startswith(".")]
        return [name for name in found if self.objects.read(f"runs/{name}/plan.json") is not None]

    def open(self, run_id: str) -> Run:
        """A run by its id.

        Raises:
            QueryError: `store.no_run`.
            StoreError: `store.plan_damaged`.
        """
        content = self.objects.read(f"runs/{run_id}/plan.json")
        if content is None:
            raise self._none(f"no run {run_id!r}")
        return Run(self.objects, RunPlan.from_bytes(content, f"{self.name}/runs/{run_id}"))

    def latest(self, run_id: str | None = None) -> Run:
        """The newest complete run, or the one asked for, complete or not.

        Raises:
            QueryError: `store.no_run`: there is none.
        """
        if run_id is not None:
            return self.open(run_id)
        for name in reversed(self.ids()):
            run = self.open(name)
            if run.complete:
                return run
        raise self._none("no complete run")

    def newest(self, run_id: str | None = None) -> Run:
        """The newest run, complete or not, or the one asked for.

        Raises:
            QueryError: `store.no_run`: there is none.
        """
        names = [run_id] if run_id is not None else self.ids()
        if not names:
            raise self._none("no run")
        return self.open(names[-1])

    def resume_or_start(
        self,
        decided: Mapping[str, Any],
        identity: ManifestIdentity,
        checked: Callable[[], Manifest],
        shards: int | None = None,
        *,
        new: bool = False,
        began: str | None = None,
    ) -> Run:
        """The run that a command goes on with: the newest of its kind that is not complete.

        Where the newest of all is complete and of its kind, that one, and there is nothing to do.
        Else a new one. Of several drivers that start the same at the same time one writes its plan,
        and all work on it.

        Args:
            decided: What decides a Report.
            identity: The manifest's, from before it is checked.
            checked: Opens the manifest and checks it; asked for a new run alone.
            shards: Into how many shards a new run is split; None goes by its rows.
            new: Start another run, whatever is there.
            began: What time it is, to be kept of a new run.

        Raises:
            RunConflict: The newest run is not complete and bound to something else.
            ManifestError: As `checked`; `manifest.changed`: it is another by now.
            StoreError: It cannot be written.
        """
        # Listed once: a number that is taken by somebody else since is either the same run, whose
        # plan is theirs then, or another with the same number.
        there = self.ids()
        found = None if new else self._find(there, decided, identity)
        return found or self._start(there, decided, identity, checked(), shards, began)

    def resume_or_repeat(
        self, decided: Mapping[str, Any], source: Run, *, new: bool = False
    ) -> Run:
        """As `resume_or_start`, over the clips of another run: its shards, of a copy of its split.

        Args:
            decided: What decides a Report, the other run's content among it.
            source: The other run.
            new: Start another run, whatever is there.

        Raises:
            RunConflict: The newest run is not complete and bound to something else.
            StoreError: It cannot be written; `store.input_damaged`: the other's split is.
        """
        there = self.ids()
        manifest = source.plan.manifest
        if not new and (found := self._find(there, decided, manifest)):
            return found
        self.objects.prove()
        run_id = self._next_id(there, decided, manifest)
        prefix = f"runs/{run_id}/input/{uuid4().hex[:12]}"
        files, inputs = copy_split(self.objects, source.plan.files, source.plan.inputs, prefix)
        plan = replace(
            source.plan, run_id=run_id, decided=dict(decided), files=files, inputs=inputs
        )
        return self._planned(plan)

    def _find(
        self, there: list[str], decided: Mapping[str, Any], manifest: ManifestIdentity
    ) -> Run | None:
        runs = [self.open(name) for name in reversed(there)]
        same = [run for run in runs if not run.plan.differences(decided, manifest)]
        for run in same:
            if not run.complete:
                return run
        if runs and runs[0] in same:
            return runs[0]
        if runs and not runs[0].complete:
            runs[0].plan.require_same(decided, manifest)
        return None

    def _start(
        self,
        there: list[str],
        decided: Mapping[str, Any],
        identity: ManifestIdentity,
        manifest: Manifest,
        shards: int | None,
        began: str | None,
    ) -> Run:
        self.objects.prove()
        run_id = self._next_id(there, decided, identity)
        count = shards or min(_MAX_SHARDS, -(-manifest.rows // _CLIPS_PER_SHARD))
        prefix = f"runs/{run_id}/input/{uuid4().hex[:12]}"
        files, inputs = split_manifest(manifest.path, manifest.rows, self.objects, prefix, count)
        rows = sum(item.expected.rows for item in inputs)
        if rows != manifest.rows or ManifestIdentity.of(manifest.path).sha256 != identity.sha256:
            for file in files:
                self.objects.remove(file.path)
            raise ManifestError(
                f"{manifest.path} was changed while it was read",
                code="manifest.changed",
                hint="Write a manifest under another name and rename it once it is whole.",
            )
        return self._planned(
            RunPlan(run_id, dict(decided), identity, rows, count, files, tuple(inputs), began)
        )

    @staticmethod
    def _next_id(there: list[str], decided: Mapping[str, Any], manifest: ManifestIdentity) -> str:
        taken = [int(name[:6]) for name in there if name[:6].isdecimal()]
        return f"{max(taken, default=0) + 1:06d}-{RunPlan.digest(decided, manifest)}"

    def _planned(self, plan: RunPlan) -> Run:
        """The run of a plan: this one's, or that of whoever wrote it first."""
        if not self.objects.create(plan.name, plan.to_bytes()):
            theirs = self.open(plan.run_id)
            if theirs.plan != plan:
                for file in plan.files:
                    self.objects.remove(file.path)
            return theirs
        return Run(self.objects, plan)

    def _none(self, what: str) -> StoreError:
        names = self.ids()
        states = {name: "complete" if self.open(name).complete else "unfinished" for name in names}
        return QueryError(
            f"{what} in {self.name}; runs there: {states or 'none'}",
            code="store.no_run",
            hint="Run `reelsight backfill --manifest ... --output` into this directory first.",
        )
