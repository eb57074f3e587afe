"""A decoder that does to its process what hostile bytes have done to decoders.

A clip that begins with `DO:` names what to do; every other is decoded as always.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from reelsight.errors import MediaError
from reelsight.media.decode import decode as real_decode
from reelsight.media.isolation.policy import Isolation
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames

__all__ = ["Misbehaving", "decode", "order"]

GIB = 1 << 30


class Misbehaving(Isolation):
    """Isolation whose children run this module's decoder."""

    decoder = f"{__name__}:decode"


def order(what: str) -> bytes:
    """A clip that makes the decoder do `what`."""
    return f"DO:{what}:".encode()


def decode(clip_id: str, uri: str, data: bytes, *rest: Any) -> tuple[Clip, Frames]:
    """Decode, or misbehave and then decode nothing."""
    if not data.startswith(b"DO:"):
        return real_decode(clip_id, uri, data, *rest)
    what, _, argument = data[3:].decode().rstrip(":").partition("=")
    DEEDS[what](argument)
    raise MediaError(f"{what} is done", code="media.survived", hint="None.")


def _segfault(_: str) -> None:
    print("about to fall", file=sys.stderr, flush=True)
    ctypes.string_at(0)


def _loop(_: str) -> None:
    while True:
        pass


def _sleep(_: str) -> None:
    time.sleep(3600)


def _balloon(_: str) -> None:
    held = [bytearray(GIB) for _ in range(10)]
    raise AssertionError(f"{len(held)} GiB were given")


def _fork(_: str) -> None:
    for _child in range(64):  # Bounded, where nothing else bounds it.
        if os.fork() == 0:
            time.sleep(3600)


def _fork_for_ever(_: str) -> None:
    while True:
        try:
            if os.fork() == 0:
                os._exit(0)
        except OSError:
            continue


def _flood(_: str) -> None:
    line = b"x" * (1 << 20)
    for _mebibyte in range(1024):
        os.write(2, line)
    os.write(2, b"the end of the flood")


def _flood_and_fall(_: str) -> None:
    _flood("")
    os.abort()


def _channel() -> socket.socket:
    """The worker's own socket, which no decoder is given."""
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):
                return socket.socket(fileno=int(entry))
        except OSError:
            continue
    raise AssertionError("no socket")


def _say(text: str) -> None:
    _channel().send(text.encode("latin-1"))
    time.sleep(3600)


def _close(_: str) -> None:
    _channel().close()
    time.sleep(3600)


def _refused(argument: str) -> None:
    """What the kernel lets pass, as the message of an error."""
    attempts: dict[str, Callable[[], Any]] = {
        "fork": os.fork,
        "exec": lambda: os.execv(sys.executable, [sys.executable, "-c", "pass"]),
        "socket": lambda: socket.socket(socket.AF_INET),
        "kill": lambda: os.kill(os.getppid(), 0),
        "create": lambda: os.open(argument + ".new", os.O_WRONLY | os.O_CREAT),
        "write": lambda: os.open(argument, os.O_WRONLY | os.O_TRUNC),
        "append": lambda: os.open(argument, os.O_WRONLY | os.O_APPEND),
        "unlink": lambda: os.unlink(argument),
        "memfd": lambda: os.memfd_create("x"),
        "session": os.setsid,
    }
    passed = []
    for name, attempt in attempts.items():
        try:
            attempt()
            passed.append(name)
        except PermissionError:
            continue
    raise MediaError(
        f"passed: {passed}, environment: {dict(os.environ)}, "
        f"devices: {sorted(os.listdir('/sys/class/net'))}, argv: {len(sys.argv)}",
        code="media.surveyed",
    )


def _out_of_range(_: str) -> None:
    raise IndexError("out of range")


DEEDS: dict[str, Callable[[str], None]] = {
    "segfault": _segfault,
    "sigkill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "abort": lambda _: os.abort(),
    "exit": lambda _: os._exit(0),
    "loop": _loop,
    "sleep": _sleep,
    "balloon": _balloon,
    "fork": _fork,
    "fork_for_ever": _fork_for_ever,
    "flood": _flood,
    "flood_and_fall": _flood_and_fall,
    "say": _say,
    "close": _close,
    "survey": _refused,
    "index": _out_of_range,
    "cpu": lambda _: signal.raise_signal(signal.SIGXCPU),
}
