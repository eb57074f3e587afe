"""What is measured of NVDEC beside streams: whether it is right, sessions, and parts of a clip."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decode.nvdec_clips import Footage
from benchmarks.decode.nvdec_streams import GEOMETRY, LIMITS, SAMPLING, backend_for, library
from reelsight.errors import MediaError
from reelsight.media.backends.indexed import choose, facts_of
from reelsight.media.backends.nvdec import NvdecBackend, yuv_of
from reelsight.media.backends.nvdec_session import NvdecSession
from reelsight.media.backends.pyav import PyAVBackend
from reelsight.media.backends.self_test import self_test
from reelsight.media.orientation import UPRIGHT
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry

__all__ = ["agreement", "parts", "self_tested", "sessions", "truth"]

# A clip of another size goes between two trials, so that each case meets a reconfigured session.
_BETWEEN = "matrix untold, large"


def self_tested(tiny: bool) -> dict[str, Any]:
    """The backend's own self-test, as negotiation runs it."""
    backend = backend_for(tiny)
    unusable = backend.unusable()
    if unusable is not None:
        return {"failure": unusable, "clips": 0}
    began = time.perf_counter()
    found = asdict(self_test(backend))
    backend.close()
    return found | {"seconds": round(time.perf_counter() - began, 2)}


def truth(tiny: bool, names: tuple[str, ...] | None = None) -> dict[str, str]:
    """Every clip whose truth is known: `right`, `refuses: why` or `wrong: how`."""
    from tests.reelsight.media.truth_clips import CASES, make, problems

    backend = backend_for(tiny)
    found: dict[str, str] = {}
    for name in names or tuple(CASES):
        outcome = "right"
        for sampling in (Sampling(rate=4), Sampling("count", count=7)):
            try:
                _decoded(backend, make(CASES[_BETWEEN]), sampling)
                frames = _decoded(backend, make(CASES[name]), sampling)
            except MediaError as error:
                outcome = f"refuses: {error.message.rpartition('this clip: ')[2]}"
                break
            if wrong := problems(frames, CASES[name]):
                outcome = f"wrong: {'; '.join(wrong)}"
                break
        found[name] = outcome
    backend.close()
    return found


def _decoded(backend: NvdecBackend, data: bytes, sampling: Sampling) -> Any:
    return backend.decode("c", "c", data, sampling, Geometry(224), LIMITS)[1]


def agreement(footage: Footage, tiny: bool) -> dict[str, Any]:
    """Mean and 99th percentile of |NVDEC - PyAV| in grey levels, on a clip that is measured."""
    data = Path(footage.path).read_bytes()
    arguments = "clip", footage.path, data, SAMPLING, GEOMETRY, LIMITS
    backend = backend_for(tiny)
    given, right = backend.decode(*arguments)[1], PyAVBackend().decode(*arguments)[1]
    backend.close()
    if given.pts.tolist() != right.pts.tolist():
        return {"failed": "it gives other times"}
    error = np.abs(given.pixels.astype(int) - right.pixels)
    p99 = float(np.percentile(error, 99))
    return {"mean": round(float(error.mean()), 4), "p99": p99, "max": int(error.max())}


def sessions(footage: list[Footage], tiny: bool, times: int = 5) -> dict[str, float]:
    """Milliseconds, medians, of getting to the first picture of a clip.

    Args:
        footage: The first clip is gone back to; one of another size and one of another codec are
            looked for among the others.
        tiny: Whether over the double.
        times: Trials of each.
    """
    first = footage[0]
    found: dict[str, list[float]] = {}

    def point(session: NvdecSession, clip: Footage, label: str | None) -> None:
        data = Path(clip.path).read_bytes()
        began = time.perf_counter()
        session.point_at(data, max(clip.width, clip.height))
        pointed = time.perf_counter()
        session.surfaces([0])
        ended = time.perf_counter()
        if label is not None:
            found.setdefault(label, []).append(1000 * (pointed - began))
            label = f"{label}, with its first picture"
            found.setdefault(label, []).append(1000 * (ended - began))

    queue = _queue(tiny)
    with queue.current():
        for _ in range(times):
            session = NvdecSession(library(tiny), 0, queue.handle)
            point(session, first, "create")
            session.drop()
        session = NvdecSession(library(tiny), 0, queue.handle)
        point(session, first, None)
        for _ in range(times):
            point(session, first, "another clip")
        same = [clip for clip in footage if clip.codec == first.codec]
        others = {
            "another size": [clip for clip in same if clip.width != first.width],
            "another codec": [clip for clip in footage if clip not in same],
        }
        for label, clips in others.items():
            if not clips:
                continue
            clip = clips[0]
            point(session, clip, f"{label}, first time")
            for _ in range(times):
                point(session, first, None)
                point(session, clip, label)
        session.drop()
    return {label: round(statistics.median(values), 2) for label, values in found.items()}


def parts(footage: Footage, tiny: bool, times: int = 5) -> dict[str, float]:
    """Milliseconds, medians, of each part of one clip in one stream, waited for one by one."""
    from reelsight.media.backends.device_scale import DeviceScaler

    data = Path(footage.path).read_bytes()
    capabilities = NvdecBackend.capabilities
    queue, found = _queue(tiny), dict[str, list[float]]()

    def timed(label: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = work()
        _wait(queue)
        found.setdefault(label, []).append(1000 * (time.perf_counter() - began))
        return result

    session, scaler = NvdecSession(library(tiny), 0, queue.handle), DeviceScaler(queue.device)

    def once() -> int:
        facts = timed(
            "read the header and the packets",
            lambda: facts_of("nvdec", data, LIMITS, capabilities, guesses_matrix=False),
        )
        look = yuv_of(facts), Fraction(1), UPRIGHT, GEOMETRY
        timed("point the session", lambda: session.point_at(data, footage.width))
        chosen = choose("nvdec", facts, session.count(), SAMPLING, LIMITS)
        # As many surfaces as the backend holds at a time.
        numbers = chosen.numbers[:32]
        surfaces = timed("decode", lambda: session.surfaces(numbers))
        out = scaler.room(len(numbers), GEOMETRY)
        timed("scale", lambda: scaler.scale_into(out, surfaces, *look))
        timed("copy to the host", out.cpu)
        return len(numbers)

    with queue.current():
        once()
        found.clear()
        counts = [once() for _ in range(times)]
    session.drop()
    medians = {label: round(statistics.median(values), 3) for label, values in found.items()}
    medians["scale, per frame"] = round(medians["scale"] / counts[0], 4)
    return medians


def _queue(tiny: bool) -> Any:
    from reelsight.media.backends.device_frames import DeviceQueue

    return DeviceQueue("cpu" if tiny else "cuda:0")


def _wait(queue: Any) -> None:
    mark = queue.mark()
    if mark is not None:
        mark.synchronize()
