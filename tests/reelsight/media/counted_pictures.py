"""How many pictures a decode takes out of the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import av
import pytest

from reelsight.media.reader import FrameReader

__all__ = ["counted_pictures"]


@contextmanager
def counted_pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count while it is entered; the one item of the list is the number so far."""
    seen = [0]
    clocked = FrameReader._clocked

    def counting(self: FrameReader, frame: av.VideoFrame) -> float:
        seen[0] += 1
        return clocked(self, frame)

    with monkeypatch.context() as patch:
        patch.setattr(FrameReader, "_clocked", counting)
        yield seen
