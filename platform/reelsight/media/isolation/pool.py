"""DecodePool: decodes clips in children, and outlives all of them.

States of a slot: empty -> starting -> idle <-> busy -> dying -> empty. States of a clip: waiting ->
attempt 1 .. attempt n -> done | refused (the decoder's own error) | dead letter. Whatever a child
does costs the clip that it held; its slot is filled anew for the next.
"""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress

from reelsight.errors import MediaError, RunError
from reelsight.media.isolation.child import Child, ChildLost
from reelsight.media.isolation.launch import Nursery
from reelsight.media.isolation.policy import Isolation
from reelsight.media.isolation.wire import Garbled, Job, OutOfMemory, read_answer
from reelsight.media.limits import MediaLimits
from reelsight.media.look import Look
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["DecodePool"]

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
# From linux/fcntl.h, which Python names from 3.13 on. It is as strict as F_SEAL_WRITE where nothing
# is mapped yet, and unlike that one never fails with EBUSY because the kernel itself holds a page.
_SEAL_FUTURE_WRITE = 0x0010


class DecodePool:
    """Decodes in as many processes as it has slots; threads may share it.

    Closed with its last reference, and with the process that made it, however that ends.

    Args:
        isolation: What a child may use, and how often a clip is tried.
        slots: Children at a time.
    """

    def __init__(self, isolation: Isolation, slots: int = 1) -> None:
        self._isolation = isolation
        self._nursing = _Nursing(isolation)
        self._slots: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        for _ in range(slots):
            self._slots.put(None)
        self._finalizer = weakref.finalize(self, _close, self._nursing, self._slots)

    def decode(
        self,
        clip_id: str,
        uri: str,
        data: bytes,
        sampling: Sampling,
        geometry: Geometry,
        limits: MediaLimits,
        attempted: Callable[[int], None] = lambda attempt: None,
    ) -> tuple[Clip, Frames]:
        """As `reelsight.media.decode.decode`, in a child.

        Args:
            clip_id: Name that the results carry.
            uri: Where the bytes came from; only recorded.
            data: The whole file.
            sampling: Which times are asked for.
            geometry: The engine's picture size.
            limits: Caps on the clip.
            attempted: Told the number of each attempt, from 1, before it begins.

        Returns:
            The clip and its frames. Their pixels are a view of memory that a child filled; it is
            freed with the last array that looks at it.

        Raises:
            MediaError: What `decode` raises, unchanged; `media.decoder_crashed`,
                `media.decoder_timeout` or `media.decoder_memory` when no attempt ended well.
            RunError: `run.no_decoder`: this machine gives no process; the clip is not to blame.
        """
        job = Job((Look(sampling, geometry),), limits)
        failure: MediaError | None = None
        for attempt in range(1, self._isolation.attempts + 1):
            attempted(attempt)
            try:
                clip, frames = self._attempt(job, data, clip_id, uri)
            except (ChildLost, OutOfMemory) as lost:
                failure = _failure(lost, self._isolation)
            else:
                return clip, frames[0]
        if failure is None:
            raise ValueError(f"attempts must be >= 1, got {self._isolation.attempts!r}")
        raise failure

    def decode_together(
        self, clip_id: str, uri: str, data: bytes, looks: Sequence[Look], limits: MediaLimits
    ) -> tuple[Clip, tuple[Frames, ...]]:
        """As `reelsight.media.decode.decode_together`, in a child; tried once.

        Raises:
            MediaError, RunError: As `decode`.
        """
        try:
            return self._attempt(Job(tuple(looks), limits), data, clip_id, uri)
        except (ChildLost, OutOfMemory) as lost:
            raise _failure(lost, self._isolation) from None

    @property
    def nursery_pid(self) -> int:
        """Process id of the parent of the children."""
        return self._nursing.pid

    def close(self) -> None:
        """End every child and the nursery, and wait until they are gone; idempotent."""
        self._finalizer()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _attempt(
        self, job: Job, data: bytes, clip_id: str, uri: str
    ) -> tuple[Clip, tuple[Frames, ...]]:
        child = self._slots.get()
        source = shared = -1
        healthy = False
        try:
            source = _filled(data)
            shared = _empty(job.room)
            child = child or self._nursing.child()
            answer = child.ask(job.pack(), [source, shared], self._isolation.timeout_s)
            try:
                result = read_answer(answer, job, shared, clip_id, uri)
            except Garbled as garbled:
                raise child.end("broke", f"its answer is none: {garbled}") from garbled
            except MediaError:
                healthy = True
                raise
            healthy = True
            return result
        except ChildLost:
            child = None
            raise
        finally:
            for fd in (source, shared):
                if fd >= 0:
                    os.close(fd)
            if child is not None and not (healthy and self._keeps(child)):
                _retire(child)
                child = None
            self._slots.put(child)

    def _keeps(self, child: Child) -> bool:
        limits = self._isolation
        return child.clips < limits.recycle_after and child.growth < limits.recycle_mb << 20


class _Nursing:
    """The nursery of a pool, started again where it is gone."""

    def __init__(self, isolation: Isolation) -> None:
        self._isolation = isolation
        self._changing = threading.Lock()
        self._closed = False
        self._nursery = Nursery(isolation)

    @property
    def pid(self) -> int:
        return self._nursery.pid

    def child(self) -> Child:
        with self._changing:
            if self._closed:
                raise RunError("the decode pool is closed", code="run.no_decoder")
            try:
                return Child(self._nursery.fork())
            except RunError:
                # It was killed from outside, and what it served with it. Another one, once.
                self._nursery.close()
                self._nursery = Nursery(self._isolation)
                return Child(self._nursery.fork())

    def close(self) -> None:
        with self._changing:
            self._closed = True
            self._nursery.close()


def _close(nursing: _Nursing, slots: queue.SimpleQueue[Child | None]) -> None:
    emptied = 0
    with suppress(queue.Empty):
        while True:
            child = slots.get_nowait()
            emptied += 1
            if child is not None:
                _retire(child)
    for _ in range(emptied):
        slots.put(None)  # Whoever comes late is told, and does not wait.
    nursing.close()


def _retire(child: Child) -> None:
    child.kill()
    child.close()


def _filled(data: bytes) -> int:
    """Memory that holds `data` and cannot be written to again."""
    fd = os.memfd_create("reelsight-clip", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | _SEAL_FUTURE_WRITE)
    return fd


def _empty(size: int) -> int:
    """Memory of `size` bytes, none of it there yet, which a child cannot cut from under a view."""
    fd = os.memfd_create("reelsight-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _failure(lost: ChildLost | OutOfMemory, isolation: Isolation) -> MediaError:
    """What a clip's failed attempts amount to, by the last of them."""
    if isinstance(lost, OutOfMemory):
        return MediaError(
            f"decoding wants more than {isolation.memory_mb} MiB ({lost})",
            code="media.decoder_memory",
            hint="Raise media.isolation.memory_mb if clips like this are expected.",
        )
    code = lost.exit_code
    tail = lost.stderr.decode(errors="replace").strip()
    written = f"; its last words: {tail}" if tail else ""
    if lost.cause == "timeout" or code == -signal.SIGXCPU:
        return MediaError(
            f"decoding did not end within {isolation.timeout_s:g} s{written}",
            code="media.decoder_timeout",
            hint="Raise media.isolation.timeout_s if clips like this are expected.",
        )
    return MediaError(
        f"the decoder's process was lost: {lost.detail} ({_ending(code)}){written}",
        code="media.decoder_crashed",
        hint="Keep the file and report it. After SIGKILL look in the kernel's log: it may have run"
        " out of memory.",
    )


def _ending(code: int | None) -> str:
    if code is None:
        return "how it ended is not known"
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
