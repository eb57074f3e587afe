"""Many decoders at once, each with one clip again and again, for some seconds.

A stream is a thread or a process with a decoder of its own. All have decoded the clip once before
the clock starts for all; each is timed to the end of its last clip.
"""

from __future__ import annotations

import importlib
import queue
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.decode.nvdec_consumer import Consumer
from benchmarks.decode.nvdec_double import Library
from reelsight.media.backends.nvdec import NvdecBackend
from reelsight.media.backends.pyav import PyAVBackend
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry

__all__ = [
    "GEOMETRY",
    "KINDS",
    "LIMITS",
    "SAMPLING",
    "backend_for",
    "in_processes",
    "in_threads",
    "library",
]

SAMPLING, GEOMETRY, LIMITS = Sampling(rate=1), Geometry(224), MediaLimits()
# What a stream does with a clip: frames to the host by the CPU or by NVDEC, frames left on the
# device, and both ways on into something like an engine.
KINDS = ("pyav", "nvdec", "nvdec-device", "nvdec-host-engine", "nvdec-device-engine")
_START_S, _END_S = 90.0, 60.0

# Frames of a clip, and pictures up to the last one asked for.
Counts = tuple[int, int]


def library(tiny: bool) -> Any:
    """PyNvVideoCodec, or its double."""
    return Library() if tiny else importlib.import_module("PyNvVideoCodec")


def backend_for(tiny: bool) -> NvdecBackend:
    """NVDEC, or the same over a double and torch's CPU."""
    return NvdecBackend(library=Library(), device="cpu") if tiny else NvdecBackend()


def in_threads(
    kind: str,
    path: str,
    streams: int,
    seconds: float,
    tiny: bool,
    fps: float,
    started: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Streams in this process.

    Args:
        kind: One of KINDS.
        path: The clip.
        streams: How many at once.
        seconds: How long.
        tiny: Whether over doubles.
        fps: Pictures a second of the clip.
        started: Called when the clock starts.
    """
    answers: Any = queue.Queue()
    cpu = [0.0]

    def start() -> None:
        cpu[0] = time.process_time()
        started()

    barrier = threading.Barrier(streams, start)
    consumer = Consumer(tiny) if kind.endswith("-engine") else None
    arguments = kind, path, seconds, tiny, fps, barrier, answers, consumer
    threads = [threading.Thread(target=_stream, args=arguments) for _ in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _row(kind, "threads", [answers.get() for _ in threads], time.process_time() - cpu[0])


def in_processes(
    kind: str, path: str, streams: int, seconds: float, tiny: bool, fps: float
) -> dict[str, Any]:
    """Streams in processes; arguments as for `in_threads`."""
    context = get_context("spawn")
    answers, barrier = context.Queue(), context.Barrier(streams)
    arguments = kind, path, seconds, tiny, fps, barrier, answers
    processes = [context.Process(target=_stream, args=arguments) for _ in range(streams)]
    for process in processes:
        process.start()
    found: list[Any] = []
    try:
        found.extend(answers.get(timeout=_START_S + seconds + _END_S) for _ in processes)
    except queue.Empty:
        found.append("a process gave no answer")
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()
    cpu = sum(answer[3] for answer in found if not isinstance(answer, str))
    return _row(kind, "processes", found, cpu)


def _row(kind: str, where: str, answers: list[Any], cpu_s: float) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": kind, "where": where, "streams": len(answers)}
    words = [answer for answer in answers if isinstance(answer, str)]
    if words:
        # The others broke off because of the one that failed.
        return row | {"failed": next((w for w in words if "BrokenBarrier" not in w), words[0])}
    frames = sum(answer[0] for answer in answers)
    return row | {
        "frames_per_s": round(sum(a[0] / a[2] for a in answers), 1),
        "pictures_per_s": round(sum(a[1] / a[2] for a in answers), 1),
        "cpu_ms_per_frame": round(1000 * cpu_s / frames, 3),
        "clips": sum(answer[4] for answer in answers),
    }


def _stream(
    kind: str,
    path: str,
    seconds: float,
    tiny: bool,
    fps: float,
    barrier: Any,
    answers: Any,
    consumer: Consumer | None = None,
) -> None:
    try:
        answers.put(_measured(_taker(kind, path, tiny, fps, consumer), seconds, barrier))
    except Exception as error:
        # The end of a stream: whatever it died of is what its row says.
        barrier.abort()
        answers.put(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _measured(
    once: Callable[[], Counts], seconds: float, barrier: Any
) -> tuple[int, int, float, float, int]:
    """Frames, pictures, seconds, CPU seconds of this process, and clips."""
    once()
    barrier.wait(_START_S)
    began, cpu = time.perf_counter(), time.process_time()
    frames = pictures = clips = 0
    while clips == 0 or time.perf_counter() - began < seconds:
        more, passed = once()
        frames, pictures, clips = frames + more, pictures + passed, clips + 1
    return frames, pictures, time.perf_counter() - began, time.process_time() - cpu, clips


def _taker(
    kind: str, path: str, tiny: bool, fps: float, consumer: Consumer | None
) -> Callable[[], Counts]:
    """What decodes the clip once."""
    data = Path(path).read_bytes()
    arguments = "clip", path, data, SAMPLING, GEOMETRY, LIMITS
    if kind == "pyav":
        pyav = PyAVBackend()
        return lambda: _counts(pyav.decode(*arguments)[1].pts, fps)
    backend = backend_for(tiny)
    if kind == "nvdec":
        return lambda: _counts(backend.decode(*arguments)[1].pts, fps)

    def on_device() -> Counts:
        frames = backend.decode_to_device(*arguments)[1]
        if kind == "nvdec-device-engine":
            assert consumer is not None
            consumer.take_device(frames.pixels)
        return _counts(frames.chosen.pts, fps)

    def through_host() -> Counts:
        frames = backend.decode(*arguments)[1]
        assert consumer is not None
        consumer.take_host(frames.pixels)
        return _counts(frames.pts, fps)

    return through_host if kind == "nvdec-host-engine" else on_device


def _counts(pts: Any, fps: float) -> Counts:
    return len(pts), round(float(pts[-1]) * fps) + 1
