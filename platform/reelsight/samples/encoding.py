"""Encoding that leaves the machine to others.

SVT-AV1 makes its threads real-time where root runs it, and the thread that called it, too: a small
machine stands still behind two dozen of them, and every process that is started later, Ray's among
them, inherits the class.
"""

from __future__ import annotations

import os
from contextlib import suppress

import av
from av.video.stream import VideoStream

__all__ = ["encoded"]


def encoded(stream: VideoStream, frame: av.VideoFrame | None) -> list[av.Packet[VideoStream]]:
    """What a stream's encoder gives for a picture, or at the end for None; nobody is real-time."""
    packets = stream.encode(frame)
    if stream.codec_context.name == "libsvtav1":
        _leave_real_time()
    return packets


def _leave_real_time() -> None:
    if not hasattr(os, "sched_setscheduler") or not os.path.isdir("/proc/self/task"):
        return
    for thread in map(int, os.listdir("/proc/self/task")):
        with suppress(ProcessLookupError):  # It has ended meanwhile.
            if os.sched_getscheduler(thread) in (os.SCHED_FIFO, os.SCHED_RR):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
