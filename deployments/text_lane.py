"""TextLane: one text tower, its thread, and the texts of many requests at a time.

The thread takes whatever waits, up to a batch, the moment the tower is free; it never waits for a
batch to fill. States of a request: queued -> running -> done | failed; queued -> dropped
(cancelled, deadline, lane closed). Where a batch of several fails, each is run alone, so that a
text the tower cannot read fails no neighbour.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from deployments.meters import Meters
from reelsight.engine.protocol import TextTower
from reelsight.errors import EngineError, ModelError, Overloaded, ReelsightError

__all__ = ["TextLane", "TextRows"]

_BATCH = 64


@dataclass(frozen=True, slots=True)
class TextRows:
    """Embedded texts.

    Attributes:
        rows: float32 [N, D], L2-normalised.
        tokens: Tokens that were read, of all of them.
    """

    rows: npt.NDArray[np.float32]
    tokens: int


@dataclass(slots=True, eq=False)
class _Request:
    texts: tuple[str, ...]
    deadline: float
    came: float = field(default_factory=time.monotonic)
    future: Future[TextRows] = field(default_factory=Future)


class TextLane:
    """Embeds texts for many requests.

    The tower is opened, and has read its first text, when this returns. A model without one makes
    a lane that says so to each request; a tower that is damaged opens no lane.

    Args:
        open_text: Makes the tower; called on the lane's own thread.
        max_waiting: Texts that may wait.
        meters: Count.

    Raises:
        ReelsightError: The tower cannot be opened.
    """

    def __init__(
        self, open_text: Callable[[], TextTower], max_waiting: int, meters: Meters
    ) -> None:
        self._max_waiting, self._meters = max_waiting, meters
        self._queue: deque[_Request] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._closed = False
        self._refusal: ModelError | None = None
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=self._serve, args=(open_text, opened), name="text-lane", daemon=True
        )
        self._thread.start()
        try:
            opened.result()
        except ModelError as error:
            if error.code != "model.no_text_tower":
                raise
            self._refusal = error

    @property
    def waiting(self) -> int:
        """Texts that wait."""
        return self._queued

    def submit(self, texts: tuple[str, ...], deadline: float) -> Future[TextRows]:
        """Queue texts.

        Args:
            texts: At least one.
            deadline: time.monotonic() after which nobody waits for them.

        Raises:
            Overloaded: Too many wait.
            ModelError: `model.no_text_tower`.
            EngineError: The lane is closed.
        """
        if self._refusal is not None:
            raise self._refusal
        request = _Request(texts, deadline)
        with self._changed:
            if self._closed:
                raise _closed()
            # One request alone is let in, however large.
            if self._queued and self._queued + len(texts) > self._max_waiting:
                raise Overloaded(f"{self._queued} texts wait", code="text.overloaded")
            self._queue.append(request)
            self._queued += len(texts)
            self._changed.notify_all()
        return request.future

    def close(self) -> None:
        """End after the batch that runs, and fail what waits; idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _serve(self, open_text: Callable[[], TextTower], opened: Future[None]) -> None:
        try:
            tower = open_text()
            tower.embed_text(["a"])
        except BaseException as error:  # Boundary: the constructor raises it.
            opened.set_exception(error)
            return
        opened.set_result(None)
        try:
            while batch := self._take():
                self._run(tower, batch)
        finally:  # Also when the thread dies of what no request can be blamed for.
            with self._changed:
                self._closed = True
                waiting, self._queued = list(self._queue), 0
                self._queue.clear()
            for request in waiting:
                _fail(request, _closed())

    def _take(self) -> list[_Request]:
        """What waits, up to a batch; nothing when closed."""
        batch: list[_Request] = []
        room = _BATCH
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._closed or self._queue)
                if self._closed:
                    return []
                while self._queue and (not batch or len(self._queue[0].texts) <= room):
                    request = self._queue.popleft()
                    self._queued -= len(request.texts)
                    if self._wanted(request):
                        batch.append(request)
                        room -= len(request.texts)
        return batch

    def _wanted(self, request: _Request) -> bool:
        if not request.future.set_running_or_notify_cancel():
            return False
        now = time.monotonic()
        if now > request.deadline:
            _fail(request, Overloaded("the deadline passed in the queue", code="text.deadline"))
            return False
        self._meters.queued("text", now - request.came)
        return True

    def _run(self, tower: TextTower, batch: list[_Request]) -> None:
        texts = [text for request in batch for text in request.texts]
        started = time.perf_counter()
        try:
            rows, counts = tower.embed_text(texts), tower.count_tokens(texts)
            if len(rows) != len(texts) or not np.isfinite(rows).all():
                raise EngineError(f"the text tower gave {rows.shape} for {len(texts)} texts")
        except Exception as error:  # Boundary: one request's texts must not end the thread.
            if len(batch) == 1:
                _fail(batch[0], error if isinstance(error, ReelsightError) else _broken(error))
                return
            for request in batch:
                self._run(tower, [request])
            return
        self._meters.read_texts(time.perf_counter() - started)
        at = 0
        for request in batch:
            end = at + len(request.texts)
            with suppress(InvalidStateError):
                request.future.set_result(TextRows(rows[at:end], sum(counts[at:end])))
            at = end


def _fail(request: _Request, error: BaseException) -> None:
    with suppress(InvalidStateError):
        request.future.set_exception(error)


def _closed() -> EngineError:
    return EngineError("the text lane is closed", code="engine.closed")


def _broken(error: Exception) -> EngineError:
    made = EngineError(f"the text tower failed: {error}")
    made.__cause__ = error
    return made
