"""One worker as its pool sees it: ask with a deadline, kill, and say how it ended.

States: idle -> busy -> idle after an answer; busy -> dying -> dead after anything else. A child
that failed once is never asked again. It knows processes and datagrams, not clips.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from reelsight.media.isolation.confinement import resident_bytes
from reelsight.media.isolation.launch import Born
from reelsight.media.isolation.nursery import STATUS
from reelsight.media.isolation.wire import ANSWER_BYTES

__all__ = ["Child", "ChildLost"]

_TAIL_BYTES = 4096
_READ_BYTES = 1 << 16
# SIGKILL works at once, but for a process that waits for a device.
_DYING_S = 5.0


@dataclass(eq=False)
class ChildLost(Exception):
    """A child that is dead, and why.

    Attributes:
        cause: `timeout`: killed at its deadline. `died`: by itself. `broke`: killed, because what
            it said was no answer.
        status: Its wait status; None when it could not be learnt.
        stderr: The last 4 KiB that it wrote.
        detail: What it did instead of answering.
    """

    cause: Literal["timeout", "died", "broke"]
    status: int | None
    stderr: bytes
    detail: str = ""

    @property
    def exit_code(self) -> int | None:
        """Exit status, or the negative number of the signal that ended it."""
        return None if self.status is None else os.waitstatus_to_exitcode(self.status)


class Child:
    """Owns a worker that was just forked.

    Args:
        born: The worker.
    """

    def __init__(self, born: Born) -> None:
        self._born = born
        self._tail = bytearray()
        self._status: int | None = None
        self._first = resident_bytes(born.pid)
        self.clips = 0

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._born.pid

    @property
    def growth(self) -> int:
        """Bytes of resident memory beyond those at its birth."""
        return resident_bytes(self._born.pid) - self._first

    def ask(self, payload: bytes, fds: list[int], timeout_s: float) -> bytes:
        """Send a datagram and wait for the answer.

        Raises:
            ChildLost: There is none; the child is dead.
        """
        deadline = time.monotonic() + timeout_s
        self._tail.clear()
        self.clips += 1
        try:
            socket.send_fds(self._born.channel, [payload], fds)
        except OSError as error:
            raise self.end("died", f"it took no clip: {error.strerror}") from error
        poll = select.poll()
        for fd in (self._born.channel.fileno(), self._born.stderr, self._born.told):
            poll.register(fd, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.end("timeout", f"no answer within {timeout_s:g} s")
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            if self._born.channel.fileno() in ready:
                return self._answer()
            if self._born.told in ready:
                raise self.end("died", "it ended without an answer")
            if self._born.stderr in ready and not self._listen():
                poll.unregister(self._born.stderr)

    def end(self, cause: Literal["timeout", "died", "broke"], detail: str) -> ChildLost:
        """Kill it if it lives, and learn how it ended."""
        if cause == "died":
            self._wait(0.2)  # Its own end says more than our signal.
        self.kill()
        self._wait(_DYING_S)
        for _ in range(2 * _TAIL_BYTES):
            if not self._listen():
                break
        lost = ChildLost(cause, self._status, bytes(self._tail), detail)
        self.close()
        return lost

    def kill(self) -> None:
        """Kill the worker; its nursery ends its group."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._born.process, signal.SIGKILL)

    def close(self) -> None:
        """Let it go: an idle worker ends when its socket does."""
        self._born.channel.close()
        for fd in (self._born.process, self._born.stderr, self._born.told):
            os.close(fd)

    def _answer(self) -> bytes:
        try:
            answer, _, flags, _ = self._born.channel.recvmsg(ANSWER_BYTES)
        except OSError as error:
            raise self.end("died", f"its socket broke: {error.strerror}") from error
        if not answer:
            raise self.end("died", "it closed its socket")
        if flags & socket.MSG_TRUNC:
            raise self.end("broke", f"its answer is longer than {ANSWER_BYTES} bytes")
        return answer

    def _listen(self) -> bool:
        """Read some of what it wrote; False when there is nothing now, or never again."""
        try:
            text = os.read(self._born.stderr, _READ_BYTES)
        except BlockingIOError:
            return False
        self._tail += text
        del self._tail[:-_TAIL_BYTES]
        return bool(text)

    def _wait(self, timeout_s: float) -> None:
        """Until its nursery has told its end."""
        if self._status is not None:
            return
        poll = select.poll()
        poll.register(self._born.told, select.POLLIN)
        if poll.poll(timeout_s * 1000):
            told = os.read(self._born.told, STATUS.size)
            if len(told) == STATUS.size:
                (self._status,) = STATUS.unpack(told)
