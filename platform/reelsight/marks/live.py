"""Tracing a live stream: a verdict after each window, and an honest price for looking often.

Look k may spend 6 / (pi^2 k^2) of alpha, so all looks together spend no more than alpha, however
long the stream is. What was seen is kept as soft bits: a look sees all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reelsight.errors import MarkError
from reelsight.marks.account import Circumstances
from reelsight.marks.tracing import Tracer
from reelsight.nouns.mark import SoftBits
from reelsight.nouns.mark_trace import Suspect, Trace

__all__ = ["LiveTrace"]


class LiveTrace:
    """One stream.

    Args:
        tracer: Compares.
        suspect: The stream; its `received_at` is when it was first seen.
        circumstances: As for a file; looks are counted here.
        keep_s: Seconds of the stream that a look sees, so that memory does not grow for ever.
    """

    def __init__(
        self,
        tracer: Tracer,
        suspect: Suspect,
        circumstances: Circumstances | None = None,
        keep_s: float = 600.0,
    ) -> None:
        self._tracer = tracer
        self._suspect = suspect
        self._about = circumstances or Circumstances()
        self._keep_s = keep_s
        self._seen: SoftBits | None = None
        self.looks = 0

    def look(self, window: SoftBits) -> Trace:
        """Add the frames of one window and judge all that is kept.

        Raises:
            MarkError: `mark.order`, the frames are not after those before; or as a trace does.
        """
        seen = window if self._seen is None else _after(self._seen, window)
        if len(seen):
            seen = _since(seen, float(seen.pts[-1]) - self._keep_s)
        self._seen = seen
        self.looks += 1
        return self._tracer.trace(self._suspect, [seen], replace(self._about, look=self.looks))


def _after(seen: SoftBits, window: SoftBits) -> SoftBits:
    same = (seen.bits, seen.view, seen.extractor_sha256)
    if same != (window.bits, window.view, window.extractor_sha256):
        raise MarkError("a stream is read by one extractor in one view", code="mark.order")
    if len(seen) and len(window) and window.pts[0] <= seen.pts[-1]:
        raise MarkError(
            f"frames at {window.pts[0]:.3f} s come after those at {seen.pts[-1]:.3f} s",
            code="mark.order",
        )
    return _joined([seen, window])


def _joined(parts: Sequence[SoftBits]) -> SoftBits:
    return replace(
        parts[0],
        pts=np.concatenate([p.pts for p in parts]),
        soft=np.concatenate([p.soft for p in parts]),
        quality=np.concatenate([p.quality for p in parts]),
        presence=np.concatenate([p.presence for p in parts]),
    )


def _since(seen: SoftBits, start: float) -> SoftBits:
    kept = seen.pts >= start
    return replace(
        seen,
        pts=seen.pts[kept],
        soft=seen.soft[kept],
        quality=seen.quality[kept],
        presence=seen.presence[kept],
    )
