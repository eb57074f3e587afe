"""What is on display when: the ground truth of a clip, and how far a contender's pictures are off.

The truth is a pass over every picture with our own stamps. A contender that tells the stamp of each
picture is taken at its word; else its pictures are looked up among all pictures of the clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reelsight.media.container import open_source
from reelsight.media.limits import MediaLimits
from reelsight.media.orientation import orientation_of
from reelsight.media.pixels import Scaler
from reelsight.media.reader import FrameReader
from reelsight.media.sampler import Sampling, on_display, target_times
from reelsight.media.timeline import slack_s
from reelsight.media.video_stream import pixel_aspect
from reelsight.nouns.engine_spec import Geometry

__all__ = ["Given", "Shown", "everything_shown"]

Pixels = npt.NDArray[np.uint8]
_SIZE, _BLOCK = 224, 8
# Contenders scale and convert differently, and neighbours may hardly differ: of the pictures that
# are as near as the nearest, but for this share and this much (contrast is 1), the one closest to
# the time asked for is meant.
_AS_NEAR, _SAME = 1.1, 0.01
# Levels of 255: a picture whose contrast is less looks like any other such.
_FLAT = np.float32(4)


@dataclass(frozen=True, slots=True)
class Given:
    """What a contender made of a clip.

    Attributes:
        pixels: uint8 [N, 224, 224, 3] RGB.
        pts: float64 [N] seconds of each picture by the contender's own word, or None.
    """

    pixels: Pixels
    pts: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """Every picture of a clip, in display order.

    Attributes:
        pts: float64 [N] seconds since the first.
        marks: float32 [N, 28, 28], what each is known by.
        end_s: Where the clip ends.
        slack_s: How much a stamp may read late.
    """

    pts: npt.NDArray[np.float64]
    marks: npt.NDArray[np.float32]
    end_s: float
    slack_s: float

    def times(self, every_s: float) -> list[float]:
        """0, every_s, 2 every_s ... before the end."""
        return list(target_times(Sampling(rate=1 / every_s), self.end_s))

    @property
    def longest_s(self) -> float:
        """The longest time that one picture is on display."""
        return float(np.diff(self.pts, append=max(self.end_s, self.pts[-1])).max())

    def error_s(self, given: Given, every_s: float) -> float:
        """Largest |pts of the picture given - pts of the one on display| over the times asked for.

        Pictures without stamps stand for the times in order. Of those with stamps the nearest
        serves a time. Times beyond the pictures given are not looked at.

        Args:
            given: At least one picture.
            every_s: Distance of the times asked for.
        """
        due = on_display(self.pts, self.times(every_s), self.slack_s)
        if given.pts is not None:
            distances = np.abs(self.pts[due][:, None] - given.pts[None, :])
            return float(distances.min(axis=1).max())
        return max(
            abs(float(self.pts[self._found(picture, at)] - self.pts[at]))
            for picture, at in zip(given.pixels, due, strict=False)
        )

    def strangers(self, given: Given) -> int:
        """How many of the pictures that came with a stamp are not those of their stamps."""
        if given.pts is None:
            return 0
        at = on_display(self.pts, list(given.pts), self.slack_s + 1e-6)
        pairs = zip(given.pixels, at, strict=True)
        return sum(self._found(picture, i) != i for picture, i in pairs)

    def _found(self, picture: Pixels, expected: int) -> int:
        """Index of the picture of the clip that a given one is."""
        apart = np.abs(self.marks - _mark(picture)).mean(axis=(1, 2))
        as_near = np.flatnonzero(apart <= _AS_NEAR * apart.min() + _SAME)
        return int(as_near[np.abs(as_near - expected).argmin()])


def _mark(picture: Pixels) -> npt.NDArray[np.float32]:
    """What a picture is known by, float32 [28, 28]: its light and dark, whatever their scale."""
    blocks = picture.reshape(_SIZE // _BLOCK, _BLOCK, _SIZE // _BLOCK, _BLOCK, 3)
    light = blocks.mean(axis=(1, 3, 4), dtype=np.float32)
    return np.asarray((light - light.mean()) / np.hypot(light.std(), _FLAT), np.float32)


def everything_shown(path: Path) -> Shown:
    """Decode all pictures of a clip; where it breaks off, those before.

    Raises:
        MediaError: The clip is refused, or has not one picture.
    """
    limits = MediaLimits(damage="partial")
    scaler, pts, marks = Scaler(Geometry(_SIZE, "shortest")), [], []
    with open_source(path.read_bytes(), limits) as source:
        reader = FrameReader(source, limits)
        for at, frame in reader:
            out = np.empty((_SIZE, _SIZE, 3), np.uint8)
            scaler.scale_into(out, frame, pixel_aspect(source.stream), orientation_of(frame))
            pts.append(at)
            marks.append(_mark(out))
        return Shown(np.array(pts), np.array(marks), reader.end_s, slack_s(source.stream))
