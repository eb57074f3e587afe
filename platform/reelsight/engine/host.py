"""EngineHost: one engine, its thread, and a work-conserving queue of frames.

Requests of any size join one queue. The thread takes whatever waits, up to the largest bucket, the
moment the engine takes a batch: it never waits for a batch to fill, so a busy engine fills its own
batches. A PipelinedEngine takes as many as it has slots, so that one is copied in while another is
computed; when nothing waits, or every slot is taken, the oldest batch is read. A request larger
than a bucket is split; one that is cancelled or past its deadline is dropped before it costs a
run. The host knows frames and futures; it knows neither clips nor HTTP nor Ray.

States of a request: queued -> (running, possibly in several parts) -> done | failed; queued ->
dropped (cancelled, deadline, host closed). A future is resolved exactly once.

States of a batch: taken -> in flight -> delivered; where it fails, on the way in or out, with
several parts each is run alone -> delivered | failed. Closing reads what is in flight.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reelsight.engine.protocol import Engine, HostObserver, PipelinedEngine, Ticket
from reelsight.errors import EngineError, EngineInputError, Overloaded, ReelsightError
from reelsight.nouns.engine_spec import EngineSpec

__all__ = ["EngineHost", "HostStats"]

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]


@dataclass(slots=True)
class HostStats:
    """Counters since the host started.

    Attributes:
        frames: Frames embedded.
        padded: Frames of padding run beside them.
        batches: Engine runs.
        busy_s: Seconds in which the engine had work.
    """

    frames: int = 0
    padded: int = 0
    batches: int = 0
    busy_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Request:
    pixels: Pixels
    deadline: float | None
    queued_at: float = field(default_factory=time.monotonic)
    future: Future[Embeddings] = field(default_factory=Future)
    taken: int = 0
    finished: int = 0
    result: Embeddings | None = None

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):  # Cancelled while it ran: its owner has left.
            self.future.set_exception(error)


@dataclass(slots=True)
class _Part:
    request: _Request
    start: int
    stop: int


@dataclass(slots=True)
class _Flight:
    """A batch that the engine was given: `frames` of its `bucket` rows are the parts'."""

    parts: list[_Part]
    frames: int
    bucket: int
    ticket: Ticket


@dataclass(slots=True)
class _Run:
    """The ticket of an engine that has none: the batch is run when it is read."""

    engine: Engine
    pixels: Pixels

    def result(self) -> Embeddings:
        return self.engine.run(self.pixels)


class EngineHost:
    """Shares one engine between threads.

    Args:
        engine: Owned by the host from here on; closed with it.
        max_queued_frames: Bound of the queue.
        observer: Hears of waits and batches.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_queued_frames: int = 2048,
        observer: HostObserver | None = None,
    ) -> None:
        self._engine, self._observer = engine, observer
        self.spec: EngineSpec = engine.spec
        self._limit = max_queued_frames
        self._queue: deque[_Request] = deque()
        self._queued = 0
        self._changed = threading.Condition()
        self._closed = False
        size = self.spec.geometry.size
        self._buffer = np.zeros((self.spec.buckets[-1], size, size, 3), dtype=np.uint8)
        self._pipelined = engine if isinstance(engine, PipelinedEngine) else None
        self._slots = 1 if self._pipelined is None else self._pipelined.slots
        self._taken: list[_Part] = []
        self._flights: deque[_Flight] = deque()
        self._counted_to = 0.0
        self._working_since: float | None = None
        self._close_error: Exception | None = None
        self.stats = HostStats()
        self._thread = threading.Thread(target=self._serve, name="engine-host", daemon=True)
        self._thread.start()

    def submit(
        self, pixels: Pixels, *, timeout: float | None = None, deadline: float | None = None
    ) -> Future[Embeddings]:
        """Queue frames.

        Args:
            pixels: uint8 [N, S, S, 3] RGB, N >= 1; must not change until the future is done.
            timeout: Seconds to wait for room in the queue: None waits as long as it takes
            (offline),
                0 refuses at once (online).
            deadline: time.monotonic() after which the frames are no longer worth running.

        Returns:
            A future of float32 [N, D] embeddings.

        Raises:
            EngineInputError: Wrong shape or dtype.
            EngineError: The host is closed.
            Overloaded: No room within `timeout`.
        """
        size = self.spec.geometry.size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise EngineInputError(
                f"expected uint8 [N, {size}, {size}, 3], got {pixels.dtype} {pixels.shape}"
            )
        if not len(pixels):
            raise EngineInputError("expected at least one frame, got 0")
        request = _Request(pixels, deadline)
        with self._changed:
            # An oversize request is let in alone rather than never.
            fits = self._changed.wait_for(
                lambda: (
                    self._closed or not self._queued or self._queued + len(pixels) <= self._limit
                ),
                timeout,
            )
            if self._closed:
                raise EngineError("the engine host is closed", code="engine.closed")
            if not fits:
                raise Overloaded(f"{self._queued} frames wait, the limit is {self._limit}")
            self._queue.append(request)
            self._queued += len(pixels)
            self._changed.notify_all()
        return request.future

    @property
    def queued_frames(self) -> int:
        """Frames that wait for the engine."""
        return self._queued

    @property
    def stalled_s(self) -> float:
        """Seconds since the engine last gave something back, while it has work; else 0."""
        since = self._working_since
        return 0.0 if since is None else time.monotonic() - since

    def run(self, pixels: Pixels) -> Embeddings:
        """Embed frames and wait: uint8 [N, S, S, 3] -> float32 [N, D]."""
        return self.submit(pixels).result()

    def close(self) -> None:
        """Stop after the running batches, fail what waits, close the engine; idempotent.

        Raises:
            EngineError: The engine could not be closed; said once.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        error, self._close_error = self._close_error, None
        if error is not None:
            raise _engine_error(error)

    def _serve(self) -> None:
        try:
            while True:
                if not self._flights:
                    self._working_since = None
                self._taken = self._take(wait=not self._flights)
                if self._working_since is None:
                    self._working_since = time.monotonic()
                if self._taken:
                    self._start(self._taken)
                elif not self._flights:
                    return
                if self._flights and (not self._taken or len(self._flights) == self._slots):
                    self._land()
        finally:  # Also when the thread dies of what no request can be blamed for.
            with self._changed:
                self._closed = True
                parts = [*self._taken, *(part for flight in self._flights for part in flight.parts)]
                waiting = [*(part.request for part in parts), *self._queue]
                self._queue.clear()
                self._queued = 0
                self._changed.notify_all()
            for request in waiting:
                request.fail(EngineError("the engine host is closed", code="engine.closed"))
            try:
                self._engine.close()
            except Exception as error:  # Boundary: close() of this host raises it.
                self._close_error = error

    def _take(self, *, wait: bool) -> list[_Part]:
        """Parts for at most one largest bucket; nothing when closed, or none is there to wait for.

        Args:
            wait: For work, when there is none.
        """
        parts: list[_Part] = []
        with self._changed:
            while not parts:
                if wait:
                    self._changed.wait_for(lambda: self._closed or self._queue)
                if self._closed or not self._queue:
                    return []
                room = self.spec.share_of(self._queued)
                while self._queue and room:
                    request = self._queue[0]
                    left = len(request.pixels) - request.taken
                    if self._dropped(request):
                        self._queue.popleft()
                        self._queued -= left
                        continue
                    if self._observer is not None and not request.taken:
                        self._observer.waited(time.monotonic() - request.queued_at)
                    n = min(left, room)
                    parts.append(_Part(request, request.taken, request.taken + n))
                    request.taken += n
                    room -= n
                    self._queued -= n
                    if n == left:
                        self._queue.popleft()
                self._changed.notify_all()
        return parts

    @staticmethod
    def _dropped(request: _Request) -> bool:
        if request.taken == 0 and not request.future.set_running_or_notify_cancel():
            return True
        if request.future.done():
            return True
        if request.deadline is not None and time.monotonic() > request.deadline:
            request.fail(Overloaded("the deadline passed in the queue", code="engine.deadline"))
            return True
        return False

    def _start(self, parts: list[_Part]) -> None:
        """Give the engine a batch."""
        if not self._flights:
            self._counted_to = time.perf_counter()
        try:
            self._flights.append(self._launch(parts))
        except Exception as error:  # Boundary: one batch's failure must not end the host's thread.
            self._blame(parts, error)

    def _land(self) -> None:
        """Read the oldest batch, which is in flight until its parts have their answers."""
        self._answer(self._flights[0])
        self._flights.popleft()
        self._working_since = time.monotonic()

    def _answer(self, flight: _Flight) -> None:
        try:
            rows = self._read(flight)
        except Exception as error:  # Boundary: as in _start.
            self._blame(flight.parts, error)
            return
        for part, result in zip(flight.parts, self._split(flight.parts, rows), strict=True):
            self._deliver(part, result)

    def _blame(self, parts: list[_Part], error: Exception) -> None:
        """Find out whose fault a batch's failure is; neighbours get their answer."""
        if len(parts) == 1:
            parts[0].request.fail(_engine_error(error))
            return
        for part in parts:
            try:
                alone = self._launch([part])
            except Exception as own:  # Boundary: as in _start.
                self._blame([part], own)
            else:
                self._answer(alone)

    def _launch(self, parts: list[_Part]) -> _Flight:
        n = 0
        for part in parts:
            width = part.stop - part.start
            self._buffer[n : n + width] = part.request.pixels[part.start : part.stop]
            n += width
        bucket = self.spec.bucket_for(n)
        self._buffer[n:bucket] = 0
        pixels = self._buffer[:bucket]
        # A pipelined engine has copied the buffer when submit returns; another one reads it before
        # the next batch is made, because one flight is all that it has.
        if self._pipelined is None:
            return _Flight(parts, n, bucket, _Run(self._engine, pixels))
        return _Flight(parts, n, bucket, self._pipelined.submit(pixels))

    def _read(self, flight: _Flight) -> Embeddings:
        try:
            rows = flight.ticket.result()
        finally:
            now = time.perf_counter()
            seconds = now - self._counted_to
            self.stats.busy_s += seconds
            self._counted_to = now
        n, bucket = flight.frames, flight.bucket
        if self._observer is not None:
            self._observer.ran(n, bucket, seconds)
        self.stats.frames += n
        self.stats.padded += bucket - n
        self.stats.batches += 1
        if rows.shape != (bucket, self.spec.dim):
            raise EngineError(f"engine gave {rows.shape}, expected {(bucket, self.spec.dim)}")
        if not np.isfinite(rows[:n]).all():
            raise EngineInputError("engine gave NaN or infinity", code="engine.not_finite")
        return rows

    @staticmethod
    def _split(parts: list[_Part], rows: Embeddings) -> Iterator[Embeddings]:
        at = 0
        for part in parts:
            width = part.stop - part.start
            yield rows[at : at + width]
            at += width

    def _deliver(self, part: _Part, rows: Embeddings) -> None:
        request = part.request
        if request.result is None:
            request.result = np.empty((len(request.pixels), self.spec.dim), dtype=np.float32)
        request.result[part.start : part.stop] = rows
        request.finished += len(rows)
        if request.finished == len(request.pixels) and not request.future.done():
            if self._observer is not None:
                self._observer.embedded(time.monotonic() - request.queued_at)
            request.future.set_result(request.result)


def _engine_error(error: Exception) -> ReelsightError:
    """The error itself where it is ours; else one of ours that it caused."""
    if isinstance(error, ReelsightError):
        return error
    made = EngineError(str(error) or type(error).__name__)
    made.__cause__ = error
    return made
