"""Encoding that leaves the machine, and stderr, to others.

SVT-AV1 prints a banner to stderr unless its own variable asks for errors only. And where root runs
it, it makes its threads real-time, and the thread that called it, too: a small machine stands still
behind two dozen of them, and every process that is started later, Ray's among them, inherits the
class.
"""

from __future__ import annotations

import os
from contextlib import suppress

import av
from av.video.stream import VideoStream

__all__ = ["encoded"]

_SVT = "libsvtav1"


def encoded(stream: VideoStream, frame: av.VideoFrame | None) -> list[av.Packet[VideoStream]]:
    """What a stream's encoder gives for a picture, or at the end for None; nobody is real-time."""
    if stream.codec_context.name != _SVT:
        return stream.encode(frame)
    os.environ.setdefault("SVT_LOG", "1")
    packets = stream.encode(frame)
    _leave_real_time()
    return packets


def _leave_real_time() -> None:
    if not hasattr(os, "sched_setscheduler") or not os.path.isdir("/proc/self/task"):
        return
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError):  # It has ended meanwhile.
            if os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
