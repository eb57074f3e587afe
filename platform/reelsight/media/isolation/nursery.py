"""The nursery: a small process that has imported the decoder once, and forks workers from it.

Workers are not forked from whoever wants frames: that process has threads, devices and secrets. The
nursery is a fresh interpreter with one thread, an empty environment and no network; it never reads
a byte of a clip. It reaps each worker together with its process group, says how it ended, and goes
when its owner goes, with all of them.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from reelsight.media.isolation.confinement import confine, leave_network

__all__ = ["BOOT", "FORK", "STATUS", "main"]

# The program of the fresh interpreter. It finds its modules where its owner found them.
BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from reelsight.media.isolation.nursery import main; main(int(sys.argv[1]))"
)
# The one request: it carries a worker's socket, its stderr, and where its end is to be told.
FORK = b"fork"
# A worker's wait status, and in an answer to FORK its process id.
STATUS = struct.Struct("i")


def main(control: int) -> None:
    """Serve the owner at the other end of the socket `control` until it is gone."""
    owner = socket.socket(fileno=control)
    config = json.loads(owner.recv(1 << 16))
    alone = leave_network()
    # A second thread would make forking unsafe, and numpy's library starts one for each core.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    module, _, function = config["decoder"].partition(":")
    decode = getattr(importlib.import_module(module), function)
    gc.collect()
    gc.freeze()  # The collector would write to, and so copy, every page that is shared.
    with suppress(OSError):
        owner.send(json.dumps({"network": "none" if alone else "shared"}).encode())
        _Nursery(owner, config, decode).run()


class _Nursery:
    """Forks and reaps.

    Args:
        owner: Datagrams from and to the process that wants workers.
        config: Its process id and what a worker may use.
        decode: The decoder.
    """

    def __init__(self, owner: socket.socket, config: dict[str, Any], decode: Any) -> None:
        self._owner = owner
        self._config = config
        self._decode = decode
        # By a descriptor of the worker's process: its id, and where its end is to be told.
        self._workers: dict[int, tuple[int, int]] = {}

    def run(self) -> None:
        """Until the owner closes its end or dies."""
        poll = select.poll()
        poll.register(self._owner, select.POLLIN)
        # A socket alone would not tell: a process that the owner forked may hold its other end.
        watch = os.pidfd_open(self._config["owner"])
        if os.getppid() != self._config["owner"]:
            return
        poll.register(watch, select.POLLIN)
        try:
            while True:
                for fd, _ in poll.poll():
                    if fd == watch:
                        return
                    if fd in self._workers:
                        poll.unregister(fd)
                        self._reap(fd)
                    elif (worker := self._take()) is None:
                        return
                    elif worker >= 0:
                        poll.register(worker, select.POLLIN)
        finally:
            for pid, _ in self._workers.values():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for fd in list(self._workers):
                self._reap(fd)

    def _take(self) -> int | None:
        """Answer one request; the new worker's descriptor, -1 without one, None at the end."""
        request, ends, _, _ = socket.recv_fds(self._owner, 64, 3)
        if request != FORK or len(ends) != 3:
            return None
        channel, stderr, told = ends
        try:
            pid = os.fork()
        except OSError as error:
            os.close(told)
            self._owner.send(f"cannot fork: {error.strerror}".encode())
            return -1
        else:
            if pid == 0:
                self._work(channel, stderr)
        finally:
            os.close(channel)
            os.close(stderr)
        worker = os.pidfd_open(pid)
        self._workers[worker] = (pid, told)
        socket.send_fds(self._owner, [STATUS.pack(pid)], [worker])
        return worker

    def _reap(self, fd: int) -> None:
        pid, told = self._workers.pop(fd)
        # Until it is reaped its group's id is nobody else's.
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        with suppress(OSError):
            os.write(told, STATUS.pack(status))
        os.close(told)
        os.close(fd)

    def _work(self, channel: int, stderr: int) -> NoReturn:
        """Be a worker; never returns into the nursery."""
        code = 1
        try:
            # Below 3: nothing, and the pipe; above: the socket, and nothing of the nursery's.
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(stderr, 1)
            os.dup2(stderr, 2)
            top = os.dup2(channel, max(channel, stderr, 3))
            os.closerange(3, top)
            os.closerange(top + 1, 1 << 16)
            confine(self._config["pid"], self._config["memory_mb"])
            from reelsight.media.isolation.worker import serve  # noqa: PLC0415 - after numpy.

            serve(socket.socket(fileno=top), self._decode, self._config["timeout_s"])
            code = 0
        except BaseException:  # Boundary: a worker ends here, whatever ended it.
            traceback.print_exc(limit=8)
            sys.stderr.flush()
        finally:
            os._exit(code)
