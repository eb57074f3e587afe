"""RecentFrames: the embeddings of what was tagged last, for previews; in memory alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelsight.nouns.report import Report

__all__ = ["FrameSample", "RecentFrames"]


@dataclass(frozen=True, slots=True, eq=False)
class FrameSample:
    """Frames of several clips.

    Attributes:
        embeddings: float16 [N, D], L2-normalised.
        clips: int64 [N]; equal numbers are frames of one clip.
    """

    embeddings: npt.NDArray[np.float16]
    clips: npt.NDArray[np.int64]

    @classmethod
    def joined(cls, samples: Sequence[FrameSample], most: int) -> FrameSample:
        """Samples of several replicas, their clips told apart, thinned evenly to `most` frames."""
        firsts = np.cumsum([0, *(int(s.clips.max(initial=-1)) + 1 for s in samples[:-1])])
        rows = np.concatenate([s.embeddings for s in samples])
        clips = np.concatenate([s.clips + first for s, first in zip(samples, firsts, strict=True)])
        if len(rows) > most:
            kept = np.linspace(0, len(rows) - 1, most).astype(np.int64)
            rows, clips = rows[kept], clips[kept]
        return cls(rows, clips)


class RecentFrames:
    """A ring of the last frames. It belongs to one event loop.

    Args:
        frames: How many are kept; 0 keeps none.
        dim: Length of an embedding.
    """

    def __init__(self, frames: int, dim: int) -> None:
        self._rows = np.zeros((frames, dim), dtype=np.float16)
        self._clips = np.zeros(frames, dtype=np.int64)
        self._seen = 0
        self._tagged = 0

    def add(self, report: Report) -> None:
        """Keep a clip's frames in the place of the oldest."""
        room = len(self._rows)
        rows = report.embeddings[-room:] if room else report.embeddings[:0]
        if not len(rows):
            return
        places = (self._seen + np.arange(len(rows))) % room
        self._rows[places] = rows
        self._clips[places] = self._tagged
        self._seen += len(rows)
        self._tagged += 1

    def sample(self) -> FrameSample:
        """A copy of what is kept; clips count from 0."""
        n = min(self._seen, len(self._rows))
        _, numbers = np.unique(self._clips[:n], return_inverse=True)
        return FrameSample(self._rows[:n].copy(), numbers.astype(np.int64))
