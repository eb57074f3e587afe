"""HostDevice: a CudaDevice over host memory, which does work late, as a GPU does.

Streams only queue; work is done when something waits for it. Who reads a buffer without waiting
reads poison, and who forgets to order two streams gets them in the wrong order: streams that nobody
waits for run last. Calls are recorded, and the n-th of a kind can be told to fail.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from reelsight.errors import EngineError

POISON = 0xA5


class HostDevice:
    """A GPU of the given name and compute capability that is none.

    Attributes:
        calls: What was called, in order, such as `memory`, `copy_in`, `free:memory`.
        fail: By kind of call, the ordinals (1 is the first) that fail as out of memory.
        buffers: Live device buffers by address, for whoever computes on them.
        captures: Whether graphs are recorded.
        reached_after: How often an event is asked before the work ahead of it is done without
            anybody waiting; never, by default.
    """

    def __init__(
        self, name: str = "Double 9000", sm: str = "8.9", *, captures: bool = True
    ) -> None:
        self.name, self.sm, self.captures = name, sm, captures
        self.calls: list[str] = []
        self.fail: dict[str, set[int]] = {}
        self.buffers: dict[int, npt.NDArray[np.uint8]] = {}
        self.streams: dict[int, HostStream] = {}
        self.depth = 0
        self.closed = False
        self.reached_after: float = float("inf")
        self._counts: Counter[str] = Counter()

    def called(self, kind: str) -> None:
        """Record a call; fail when told so, or when no context is current."""
        self.calls.append(kind)
        self._counts[kind] += 1
        assert self.depth > 0, f"{kind} outside of current()"
        assert not self.closed, f"{kind} after close"
        if self._counts[kind] in self.fail.get(kind, ()):
            raise EngineError(f"{kind} failed as told", code="engine.out_of_memory")

    @property
    def live(self) -> int:
        """Buffers, streams and events that were made and not freed."""
        kinds = ("pinned", "memory", "stream", "event")
        return sum(
            self._counts[kind] - len(self.fail.get(kind, ())) - self._counts[f"free:{kind}"]
            for kind in kinds
        )

    @contextmanager
    def current(self) -> Iterator[None]:
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def pinned(self, nbytes: int) -> HostPinned:
        self.called("pinned")
        return HostPinned(self, nbytes)

    def memory(self, nbytes: int) -> HostMemory:
        self.called("memory")
        return HostMemory(self, nbytes)

    def stream(self) -> HostStream:
        self.called("stream")
        return HostStream(self)

    def event(self) -> HostEvent:
        self.called("event")
        return HostEvent(self)

    def copy_in(self, to: Any, source: Any, n: int, stream: Any) -> None:
        self.called("copy_in")
        stream.do(lambda: np.copyto(self.buffers[to.address][:n], source.array[:n]))

    def copy_out(self, to: Any, source: Any, n: int, stream: Any) -> None:
        self.called("copy_out")
        stream.do(lambda: np.copyto(to.array[:n], self.buffers[source.address][:n]))

    def memory_info(self) -> tuple[int, int]:
        self.called("memory_info")
        return 1 << 30, 2 << 30

    def capture(self, stream: Any, enqueue: Callable[[], None]) -> HostGraph:
        self.called("capture")
        recorded: deque[Callable[[], object]] = deque()
        stream.recording = recorded
        try:
            enqueue()
        finally:
            stream.recording = None
        return HostGraph(self, tuple(recorded))

    def close(self) -> None:
        self.closed = True


class HostPinned:
    def __init__(self, device: HostDevice, nbytes: int) -> None:
        self._device = device
        self._array: npt.NDArray[np.uint8] | None = np.full(nbytes, POISON, np.uint8)

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        assert self._array is not None, "pinned memory used after it was freed"
        return self._array

    def free(self) -> None:
        self._device.called("free:pinned")
        self._array = None


class HostMemory:
    _next = 0x7F0000000000

    def __init__(self, device: HostDevice, nbytes: int) -> None:
        self._device, self.nbytes = device, nbytes
        HostMemory._next += 1 << 32
        self.address = HostMemory._next
        device.buffers[self.address] = np.full(nbytes, POISON, np.uint8)

    def free(self) -> None:
        self._device.called("free:memory")
        del self._device.buffers[self.address]


class HostStream:
    """A queue that does nothing until someone waits."""

    def __init__(self, device: HostDevice) -> None:
        self._device = device
        self._queue: deque[Callable[[], object]] = deque()
        self.recording: deque[Callable[[], object]] | None = None
        self.handle = len(device.streams) + 1
        device.streams[self.handle] = self

    def do(self, work: Callable[[], object]) -> None:
        """Queue work, or record it during a capture."""
        (self._queue if self.recording is None else self.recording).append(work)

    def wait_for(self, event: Any) -> None:
        self._device.called("wait_for")
        reached = event.point
        self.do(lambda: reached() if reached is not None else None)

    def synchronize(self) -> None:
        self._device.called("synchronize")
        self.run()

    def free(self) -> None:
        self._device.called("free:stream")
        assert not self._queue, "a stream freed with work in it"

    def run(self, until: object = None) -> None:
        """Do what is queued, up to a marker."""
        while self._queue:
            work = self._queue.popleft()
            work()
            if work is until:
                return


class HostEvent:
    def __init__(self, device: HostDevice) -> None:
        self._device = device
        self.point: Callable[[], None] | None = None
        self.asked = 0
        self._passed: list[bool] = [True]

    def record(self, stream: Any) -> None:
        self._device.called("record")
        self._passed = passed = []

        def marker() -> None:
            passed.append(True)

        stream.do(marker)
        self.point = lambda: None if passed else stream.run(until=marker)

    def reached(self) -> bool:
        self.asked += 1
        if self.asked > self._device.reached_after and self.point is not None:
            self.point()
        return bool(self._passed)

    def free(self) -> None:
        self._device.called("free:event")

    def wait(self) -> None:
        self._device.called("wait")
        if self.point is not None:
            self.point()


class HostGraph:
    def __init__(self, device: HostDevice, work: tuple[Callable[[], object], ...]) -> None:
        self._device, self._work = device, work
        self._running = 0
        self.freed = False

    def launch(self, stream: Any) -> None:
        self._device.called("launch")
        assert not self.freed, "a graph launched after it was freed"
        self._running += 1
        for work in self._work:
            stream.do(work)
        stream.do(self._ended)

    def _ended(self) -> None:
        self._running -= 1

    def free(self) -> None:
        self._device.called("free:graph")
        assert not self._running, "a graph freed while it runs"
        self.freed = True
