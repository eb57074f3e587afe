"""The child: takes a clip's bytes, decodes, answers, and waits for the next.

Whatever happens to it happens to one clip. It knows one socket and runs one decoder; who asks, and
for which file, it is not told.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from reelsight.errors import MediaError, ReelsightError
from reelsight.media.isolation.confinement import mapped_bytes, space_taken, start_clock
from reelsight.media.isolation.wire import (
    ANSWER_BYTES,
    Job,
    answer_error,
    answer_frames,
    answer_memory,
)
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["DecodeFunction", "serve"]

DecodeFunction = Callable[[str, str, bytes, Sampling, Geometry, MediaLimits], tuple[Clip, Frames]]

_NO_MEMORY = os.strerror(errno.ENOMEM)
# FFmpeg says of a picture for which it got no memory that it is damaged. A process that has had
# this share of what it may have is not believed when it says so: its clip is tried in a fresh one.
_SQUEEZED = 0.75
_DAMAGE = frozenset({"media.damaged", "media.undecodable"})


def serve(channel: socket.socket, decode: DecodeFunction, timeout_s: float) -> None:
    """Answer jobs until the pool closes its end.

    Args:
        channel: Datagrams: a job with the descriptors of the clip's bytes and of the shared memory,
            then its answer.
        decode: The decoder.
        timeout_s: CPU seconds for one clip.
    """
    idle = mapped_bytes()
    while True:
        payload, received, _, _ = socket.recv_fds(channel, ANSWER_BYTES, 2)
        if not payload:
            return
        source, shared = received
        try:
            start_clock(timeout_s)
            channel.send(_answer(Job.unpack(payload), source, shared, decode, idle))
        finally:
            os.close(source)
            os.close(shared)


def _answer(job: Job, source: int, shared: int, decode: DecodeFunction, idle: int) -> bytes:
    try:
        with open(source, "rb", buffering=0, closefd=False) as file:
            file.seek(0)
            data = file.read()
        clip, looks = _decoded(job, data, decode)
        for stopped in filter(None, (frames.stopped for frames in looks)):
            if _NO_MEMORY in stopped or space_taken(idle) > _SQUEEZED:
                # The clip did not break off: we did.
                return answer_memory(MemoryError(stopped))
        return answer_frames(clip, looks, shared, job.room)
    except Exception as error:  # Boundary: every outcome of a clip is an answer to its pool.
        return answer_memory(error) if _ran_out(error, idle) else answer_error(error)


def _decoded(job: Job, data: bytes, decode: DecodeFunction) -> tuple[Clip, tuple[Frames, ...]]:
    if len(job.looks) > 1:
        # The nursery has it already: with the decoder, before this process gave up its files.
        from reelsight.media.decode import decode_together  # noqa: PLC0415

        return decode_together("clip", "", data, job.looks, job.limits)
    (look,) = job.looks
    clip, frames = decode("clip", "", data, look.sampling, look.geometry, job.limits)
    return clip, (frames,)


def _ran_out(error: BaseException | None, idle: int) -> bool:
    """Whether an allocation that failed is, or may be, at the root; FFmpeg's are errors of ours."""
    if isinstance(error, MediaError) and error.code in _DAMAGE and space_taken(idle) > _SQUEEZED:
        return True
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if isinstance(error, ReelsightError) and _NO_MEMORY in error.message:
            return True
        error = error.__cause__
    return False
