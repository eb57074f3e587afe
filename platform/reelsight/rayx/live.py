"""The live view: which stage limits a run while it runs, read from Ray Data's own counters.

A stage limits the others when all of its slots are taken while work waits in front of it. With
backpressure every stage before it looks like that as well: so it is the last such stage; and where
there is none, the first one that works.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.execution_callback import ExecutionCallback

__all__ = ["Stage", "limiting", "told_live"]

Say = Callable[[str], None]

_EVERY_S = 1.0
# Looks that are counted: a stage limits a run, not a moment.
_WINDOW = 15


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage at one moment.

    Attributes:
        name: As in the run's summary.
        running: Tasks, or calls of actors, that run.
        slots: How many could.
        waiting: Blocks in front of it.
        rows: Clips that it has handed on.
    """

    name: str
    running: int
    slots: int
    waiting: int
    rows: int


def limiting(stages: Sequence[Stage]) -> str | None:
    """The stage that limits the others; None while nothing runs."""
    full = [s.name for s in stages if s.running >= s.slots and s.waiting]
    working = [s.name for s in stages if s.running]
    return full[-1] if full else working[0] if working else None


@contextmanager
def told_live(say: Say | None) -> Iterator[None]:
    """Say in a line how the run inside is, about once a second.

    Args:
        say: Gets each line, in the thread of Ray Data's scheduler; None says nothing.
    """
    if say is None:
        yield
        return
    context = DataContext.get_current()
    before = list(context.custom_execution_callback_classes)
    _Watch.view = _View(say)
    context.custom_execution_callback_classes = [*before, _Watch]
    try:
        yield
    finally:
        context.custom_execution_callback_classes = before
        _Watch.view = None


class _View:
    """What has been seen, and when it was last told."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._started = self._told = time.monotonic()
        self._seen: deque[str] = deque(maxlen=_WINDOW)

    def look(self, topology: dict[Any, Any]) -> None:
        now = time.monotonic()
        if now - self._told < _EVERY_S:
            return
        self._told = now
        stages = _stages(topology)
        if (name := limiting(stages)) is not None:
            self._seen.append(name)
        if self._seen:
            self._say(self._line(stages, now - self._started))

    def _line(self, stages: list[Stage], passed_s: float) -> str:
        """Short enough for a terminal: of each stage running/slots and, after +, what waits."""
        ((most, _),) = Counter(self._seen).most_common(1)
        told = [
            f"{s.name} {s.running}/{s.slots} +{s.waiting}"
            for s in sorted(stages, key=lambda stage: stage.name != most)
        ]
        done = stages[-1].rows
        return f"{done} clips, {done / passed_s:.1f}/s; limiting: {'; '.join(told)}"


class _Watch(ExecutionCallback):  # type: ignore[misc]
    """Ray Data makes one a run, by its class; what it tells is this process's alone."""

    view: _View | None = None

    def on_execution_step(self, executor: Any) -> None:
        if (view := _Watch.view) is None:
            return
        try:
            view.look(executor._topology)
        except AttributeError:  # Boundary: these are Ray's inner parts; no run ends for the view.
            _Watch.view = None


def _stages(topology: dict[Any, Any]) -> list[Stage]:
    """Decode and engine as Ray Data's executor knows them; what follows them costs too little.

    Engines are in an EngineWorker, a MarkWorker or a TagAndMarkWorker.
    A run that re-scores another has one stage, and neither of these.
    """
    kinds = (
        ("decode_clips", "fetch+decode"),
        ("EngineWorker", "engine"),
        ("MarkWorker", "engine"),
        ("rescore_files", "report"),
    )
    return [
        _stage(name, operator, state)
        for marker, name in kinds
        for operator, state in topology.items()
        if marker in operator.name
    ]


def _stage(name: str, operator: Any, state: Any) -> Stage:
    pool = getattr(operator, "_actor_pool", None)
    if pool is None:
        slots = operator.get_max_concurrency_limit() or 1
    else:
        slots = pool.max_size() * pool.max_actor_concurrency()
    return Stage(
        name=name,
        running=operator.metrics.num_tasks_running,
        slots=slots,
        waiting=state.total_enqueued_input_blocks(),
        rows=operator.metrics.row_outputs_taken,
    )
