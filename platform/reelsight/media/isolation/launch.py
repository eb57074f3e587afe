"""The owner's side of a nursery: starting it, asking it for workers, ending it.

It knows processes and descriptors; what a worker is asked is not its business.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass

from reelsight.errors import RunError
from reelsight.media.isolation.nursery import BOOT, FORK, STATUS
from reelsight.media.isolation.policy import Isolation

__all__ = ["Born", "Nursery"]

# Importing FFmpeg's libraries takes a quarter of a second, from a cold disk a few.
_START_S = 60.0
_FORK_S = 30.0
_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Born:
    """A worker that was just forked; whoever takes it closes all of it.

    Attributes:
        pid: Process id.
        process: Descriptor of the process, which is never another's.
        channel: Datagrams to and from it.
        stderr: Read end of its stdout and stderr.
        told: Read end of a pipe that brings its wait status, and ends when nobody is left to.
    """

    pid: int
    process: int
    channel: socket.socket
    stderr: int
    told: int


class Nursery:
    """A nursery of one's own. Starting does not wait: the first `fork` does.

    Args:
        isolation: What a worker may use, and which decoder it runs.
    """

    def __init__(self, isolation: Isolation) -> None:
        self._asking = threading.Lock()
        self._ready = False
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and program.
                [sys.executable, "-I", "-S", "-c", BOOT, str(theirs.fileno()), path],
                env={},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # The terminal's Ctrl-C is for its owner.
            )
        config = {
            "owner": os.getpid(),
            "pid": self._process.pid,
            "decoder": isolation.decoder,
            "memory_mb": isolation.memory_mb,
            "timeout_s": isolation.timeout_s,
        }
        with suppress(OSError):  # Whether it lives is seen at the first `fork`.
            self._control.send(json.dumps(config).encode())

    @property
    def pid(self) -> int:
        """Process id of the nursery."""
        return self._process.pid

    def fork(self) -> Born:
        """A new worker.

        Raises:
            RunError: `run.no_decoder`: there is no nursery, or it cannot fork.
        """
        with self._asking:
            if not self._ready:
                self._receive(_START_S)
                self._ready = True
            channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stderr, their_stderr = os.pipe()
            told, telling = os.pipe()
            try:
                ends = [theirs.fileno(), their_stderr, telling]
                try:
                    socket.send_fds(self._control, [FORK], ends)
                    answer, passed = self._receive(_FORK_S)
                finally:
                    theirs.close()
                    os.close(their_stderr)
                    os.close(telling)
                if not passed:
                    raise _unusable(answer.decode(errors="replace"))
            except OSError as error:
                _close(channel, stderr, told)
                raise self._gone() from error
            except RunError:
                _close(channel, stderr, told)
                raise
        os.set_blocking(stderr, False)
        channel.setblocking(False)
        (pid,) = STATUS.unpack(answer)
        return Born(pid, passed[0], channel, stderr, told)

    def close(self) -> None:
        """End it with all its workers, and wait until it is gone; idempotent."""
        self._control.close()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _receive(self, timeout_s: float) -> tuple[bytes, list[int]]:
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            raise _unusable(f"it did not answer within {timeout_s:g} s")
        try:
            answer, passed, _, _ = socket.recv_fds(self._control, 4096, 1)
        except ConnectionResetError:  # It died with our last datagram unread.
            answer, passed = b"", []
        if not answer:
            raise self._gone()
        return answer, passed

    def _gone(self) -> RunError:
        self._process.kill()
        self._process.wait()
        told = b""
        if self._process.stderr is not None and not self._process.stderr.closed:
            told = self._process.stderr.read()
        lines = told.decode(errors="replace").strip().splitlines()
        code = self._process.returncode
        return _unusable(f"its process ended with {code}" + (f": {lines[-1]}" if lines else ""))


def _close(channel: socket.socket, *fds: int) -> None:
    channel.close()
    for fd in fds:
        os.close(fd)


def _unusable(why: str) -> RunError:
    return RunError(
        f"no process to decode in: {why}",
        code="run.no_decoder",
        hint="Check this machine's limits on processes and memory.",
    )
