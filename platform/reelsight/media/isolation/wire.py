"""What passes between a pool and a worker: a job one way, an answer the other.

The two directions are not alike. A job comes from us and is pickled. An answer comes from a process
that read hostile bytes: it is JSON and numbers, every offset is checked, and nothing in it is
executed. Pixels pass through memory that both have mapped. This module knows neither processes nor
decoders.
"""

from __future__ import annotations

import json
import mmap
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import reelsight.errors
from reelsight.errors import MediaError, ReelsightError
from reelsight.media.limits import MediaLimits
from reelsight.media.look import Look
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames

__all__ = [
    "ANSWER_BYTES",
    "Garbled",
    "Job",
    "OutOfMemory",
    "answer_error",
    "answer_frames",
    "answer_memory",
    "read_answer",
]

# Longest datagram of an answer. Everything that grows with a clip is in the shared memory.
ANSWER_BYTES = 1 << 16
_TEXT = 8192
_ALIGN = 64
# One number a frame for each array beside the pixels; there is room for eight of them.
_NUMBERS_PER_FRAME = 8
_DTYPES = ("|u1", "|b1", "<f8", "<i8")


class Garbled(Exception):
    """An answer that no healthy worker gives."""


class OutOfMemory(Exception):
    """The worker says that it met its memory limit."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to do with a clip's bytes. Neither its name nor its uri: the child has no use for them.

    Attributes:
        looks: What is asked of it; several are served by one pass.
        limits: Caps on the clip.
    """

    looks: tuple[Look, ...]
    limits: MediaLimits

    def pack(self) -> bytes:
        """The job as a datagram."""
        return pickle.dumps(self)

    @staticmethod
    def unpack(payload: bytes) -> Job:
        """The job of a datagram that came from the pool."""
        job: Job = pickle.loads(payload)  # noqa: S301 - a worker unpacks what its pool packed.
        return job

    @property
    def room(self) -> int:
        """Bytes of shared memory that no clip within the limits outgrows; untouched, it is free."""
        room = mmap.PAGESIZE
        for look in self.looks:
            frame = look.geometry.size**2 * 3 + 8 * _NUMBERS_PER_FRAME
            room += self.limits.max_frames * frame + _ALIGN * (_NUMBERS_PER_FRAME + 1)
        return room


def answer_frames(clip: Clip, looks: Sequence[Frames], shared: int, room: int) -> bytes:
    """Put frames into shared memory and describe them.

    Args:
        clip: The described clip.
        looks: Its frames, by look; the one copy of their pixels is made here.
        shared: File descriptor of the memory.
        room: Its size, bytes.

    Raises:
        ValueError: They do not fit.
    """
    told, found, end = [], [], 0
    for frames in looks:
        values = {field.name: getattr(frames, field.name) for field in fields(frames)}
        arrays = {name: v for name, v in values.items() if isinstance(v, np.ndarray)}
        placed = {}
        for name, array in arrays.items():
            placed[name] = {"at": end, "dtype": array.dtype.str, "shape": array.shape}
            found.append((end, array))
            end += -(-array.nbytes // _ALIGN) * _ALIGN
        scalars = {name: v for name, v in values.items() if name not in arrays}
        if isinstance(scalars.get("stopped"), str):
            scalars["stopped"] = scalars["stopped"][:_TEXT]
        told.append({"frames": scalars, "arrays": placed})
    if end > room:
        raise ValueError(f"frames take {end} bytes, there is room for {room}")
    with mmap.mmap(shared, end, flags=mmap.MAP_SHARED) as memory:
        for at, array in found:
            memory.seek(at)
            memory.write(array.data if array.size else b"")
    return _json({"kind": "frames", "clip": asdict(clip), "looks": told, "end": end})


def answer_error(error: Exception) -> bytes:
    """Describe an error; one that is not of our tree is named by its type."""
    if isinstance(error, ReelsightError):
        words = {"type": type(error).__name__, "code": error.code, "hint": error.hint[:_TEXT]}
        return _json({"kind": "error", "message": error.message[:_TEXT], **words})
    return _json({"kind": "unexpected", "message": f"{type(error).__name__}: {error}"[:_TEXT]})


def answer_memory(error: BaseException) -> bytes:
    """Say that memory ran out."""
    return _json({"kind": "memory", "message": str(error)[:_TEXT] or type(error).__name__})


def read_answer(
    payload: bytes, job: Job, shared: int, clip_id: str, uri: str
) -> tuple[Clip, tuple[Frames, ...]]:
    """The clip of an answer, and its frames by look.

    Args:
        payload: The datagram.
        job: What was asked.
        shared: File descriptor of the memory that was given with the job.
        clip_id: Name that the results carry.
        uri: Where the bytes came from.

    Returns:
        The clip and the frames of each look, uint8 [N, size, size, 3]. The pixels are views of the
        shared memory, which is freed with the last array that looks at it.

    Raises:
        ReelsightError: What the decoder raised, as it was raised.
        OutOfMemory: It ran out of memory.
        Garbled: The answer is none.
    """
    try:
        answer = json.loads(payload)
        kind = answer["kind"]
        if kind == "frames":
            return _read_frames(answer, job, shared, clip_id, uri)
        message = _text(answer["message"])
        error = _read_error(kind, message, answer)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as broken:
        raise Garbled(f"{type(broken).__name__}: {str(broken)[:200]}") from broken
    raise error


def _read_error(
    kind: Literal["error", "unexpected", "memory"] | str, message: str, answer: Mapping[str, Any]
) -> Exception:
    if kind == "error":
        name = _text(answer["type"])
        known = getattr(reelsight.errors, name, None) if name in reelsight.errors.__all__ else None
        made = known if isinstance(known, type) and issubclass(known, MediaError) else None
        if made is None:
            return ReelsightError(message, code=_text(answer["code"]), hint=_text(answer["hint"]))
        return made(message, code=_text(answer["code"]), hint=_text(answer["hint"]))
    if kind == "unexpected":
        return ReelsightError(message, code="internal.unexpected")
    if kind == "memory":
        return OutOfMemory(message)
    raise ValueError(f"kind {kind!r}")


def _read_frames(
    answer: Mapping[str, Any], job: Job, shared: int, clip_id: str, uri: str
) -> tuple[Clip, tuple[Frames, ...]]:
    end = answer["end"]
    if not isinstance(end, int) or not 0 < end <= job.room:
        raise ValueError(f"end {end!r}")
    # Mapped as it lies, its page tables filled at once: faulting a frame in page by page costs more
    # than copying it.
    memory = mmap.mmap(shared, end, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    looks = []
    for look, told in zip(job.looks, answer["looks"], strict=True):
        arrays = {name: _array(memory, end, at) for name, at in told["arrays"].items()}
        # Small arrays are copied, so that a kept timeline does not keep the pixels.
        values = {name: a if name == "pixels" else a.copy() for name, a in arrays.items()}
        frames = Frames(**{**told["frames"], **values, "clip_id": clip_id})
        size = look.geometry.size
        if frames.pixels.shape[1:] != (size, size, 3) or not len(frames):
            raise ValueError(f"pixels {frames.pixels.shape}")
        looks.append(frames)
    return replace(Clip(**{**answer["clip"], "clip_id": clip_id}), uri=uri), tuple(looks)


def _array(memory: mmap.mmap, end: int, place: Mapping[str, Any]) -> npt.NDArray[Any]:
    at, shape = place["at"], [int(n) for n in place["shape"]]
    if place["dtype"] not in _DTYPES or not isinstance(at, int) or at < 0 or at > end:
        raise ValueError(f"array {place!r}")
    # numpy refuses what reaches past the end of the memory.
    return np.ndarray(shape, place["dtype"], buffer=memory, offset=at)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text is wanted, got {type(value).__name__}")
    return value


def _json(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer, default=lambda number: number.item()).encode()
