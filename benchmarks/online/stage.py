"""What the engine did while it was asked, by the door's own /metrics.

`reelsight_embed_seconds` has one observation a request of frames: from its arrival at the engine to
its last embedding, its place in the queue and all its runs included.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from typing import Any

from reelsight.cli.readings import Reading, Window
from reelsight.cli.readings import quantile as interpolated

__all__ = ["engine_stage", "quantile", "reading"]

_AIM_MS = 10.0
_HISTOGRAMS = ("reelsight_embed_seconds", "reelsight_engine_seconds", "reelsight_decode_seconds")
_TIMEOUT_S = 30.0


def reading(port: int) -> Reading:
    """What a door on loopback has counted.

    Raises:
        OSError: It does not answer.
        http.client.HTTPException: Nor in HTTP, or not with 200.
        FetchError: It is no door of ours.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        raise http.client.HTTPException(f"/metrics said {answer.status}: {text[:200]}")
    return Reading.parse(text)


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> tuple[float, float] | None:
    """Where a quantile of a histogram lies.

    Args:
        buckets: As `Window.buckets` gives them, in seconds.
        share: 0..1.

    Returns:
        Milliseconds: by interpolation, and the upper bound of its bucket, which it is certainly
        below. None of nothing.
    """
    inside = interpolated(list(buckets), share)
    if inside is None:
        return None
    upper = next(bound for bound, upto in buckets if upto >= share * buckets[-1][1])
    return round(1000 * inside, 3), round(1000 * upper, 3)


def engine_stage(done: Window, seconds: float) -> dict[str, Any]:
    """Queue and run in the engine, batches, and decoding, of what was counted in a while.

    Args:
        done: What was counted in it.
        seconds: For how long.

    Returns:
        Milliseconds, shares, and `busy`, the engine's share of that time.
    """
    embeds = done.buckets("reelsight_embed_seconds_bucket")
    batches = done.grown("reelsight_engine_seconds_count")
    frames = done.grown("reelsight_frames_total")
    whole = max((n for _, n in embeds), default=0.0)
    within = max((n for le, n in embeds if le * 1000 <= _AIM_MS), default=0.0)
    found: dict[str, Any] = {
        "frames": int(frames),
        "busy": round(done.grown("reelsight_engine_seconds_sum") / max(seconds, 1e-9), 3),
        "frames_a_batch": round(frames / batches, 2) if batches else None,
        "padding_share": _share(done.grown("reelsight_padding_frames_total"), frames),
        "within_10_ms": round(within / whole, 4) if whole else None,
    }
    for name in _HISTOGRAMS:
        word = name.removeprefix("reelsight_").removesuffix("_seconds")
        buckets = done.buckets(f"{name}_bucket")
        for percent in (50, 99):
            place = quantile(buckets, percent / 100)
            found[f"{word}_p{percent}_ms"] = None if place is None else place[0]
            if percent == 99:
                found[f"{word}_p99_below_ms"] = None if place is None else place[1]
    return found


def _share(part: float, rest: float) -> float | None:
    return round(part / (part + rest), 4) if part + rest else None
