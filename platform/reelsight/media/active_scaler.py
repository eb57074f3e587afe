"""Scalers of geometry `active`: one looks for black bars, the other scales what is inside of them.

Whether a row is a bar shows only when all pictures were seen. Where their luma is too much to keep
until then, a clip is gone through twice, and each pass sees the same pictures.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.video.reformatter import VideoReformatter

from reelsight.media.luma import Box, Plane, active_box, luma_of, squash
from reelsight.media.orientation import UPRIGHT, Orientation
from reelsight.nouns.engine_spec import Geometry

__all__ = ["ActiveScaler", "Boxes", "LumaKeeper", "PeakKeeper", "upright"]

# 64 pictures of 1080p, 16 of 2160p.
_KEPT_BYTES = 192 << 20

Boxes = dict[tuple[int, int], Box]
"""Active picture by the upright picture's height and width: a clip may change its size."""


class PeakKeeper:
    """Keeps the brightest that each pixel became; scales nothing.

    Args:
        geometry: Of mode `active`.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self._reformatter = VideoReformatter()
        self._peaks: dict[tuple[int, ...], Plane] = {}

    def scale_into(
        self,
        out: npt.NDArray[np.uint8],
        frame: VideoFrame,
        sar: Fraction = Fraction(1),
        orientation: Orientation = UPRIGHT,
    ) -> None:
        """Look at a picture; `out` stays as it is."""
        del out, sar
        self.see(upright(luma_of(frame, self._reformatter), orientation))

    def see(self, luma: Plane) -> None:
        """Look at the luma of an upright picture, uint8 [H, W], limited range."""
        peak = self._peaks.get(luma.shape)
        if peak is None:
            self._peaks[luma.shape] = luma.copy()
        else:
            np.maximum(peak, luma, out=peak)

    def boxes(self) -> Boxes:
        """Where the active picture was, over all that was seen."""
        return {(peak.shape[0], peak.shape[1]): active_box(peak) for peak in self._peaks.values()}


class LumaKeeper(PeakKeeper):
    """Also keeps the luma of the pictures, as far as there is room, to scale it in the end.

    Args:
        geometry: Of mode `active`.
        room: Bytes that may be kept.
    """

    def __init__(self, geometry: Geometry, room: int = _KEPT_BYTES) -> None:
        super().__init__(geometry)
        self._room = room
        self._kept: list[Plane] | None = []

    def see(self, luma: Plane) -> None:
        super().see(luma)
        self._room -= luma.nbytes
        if self._room < 0:
            self._kept = None
        if self._kept is not None:
            self._kept.append(luma.copy())

    def write(self, pictures: npt.NDArray[np.uint8]) -> bool:
        """Write what `ActiveScaler` would have written; False where not all of it was kept.

        Args:
            pictures: uint8 [N, size, size, 3], as many as were seen; overwritten.
        """
        if self._kept is None or len(self._kept) != len(pictures):
            return False
        boxes, size = self.boxes(), self.geometry.size
        for out, luma in zip(pictures, self._kept, strict=True):
            box = boxes[luma.shape[0], luma.shape[1]]
            out[:] = squash(luma, box, size)[..., None]
        self._kept = []
        return True


class ActiveScaler:
    """Writes the luma of the active picture, squashed, into all three channels.

    Args:
        geometry: Of mode `active`.
        boxes: Of the clip; a picture of a size that is not in it is searched for bars by itself.
    """

    def __init__(self, geometry: Geometry, boxes: Boxes) -> None:
        self.geometry = geometry
        self._boxes = boxes
        self._reformatter = VideoReformatter()

    def scale_into(
        self,
        out: npt.NDArray[np.uint8],
        frame: VideoFrame,
        sar: Fraction = Fraction(1),
        orientation: Orientation = UPRIGHT,
    ) -> None:
        """Write one picture into `out`, uint8 [size, size, 3]; a pixel's shape does not matter."""
        del sar
        out[:] = self.squashed(frame, orientation)[..., None]

    def squashed(self, frame: VideoFrame, orientation: Orientation) -> Plane:
        """Luma of one picture, uint8 [size, size]."""
        luma = upright(luma_of(frame, self._reformatter), orientation)
        box = self._boxes.get((luma.shape[0], luma.shape[1])) or active_box(luma)
        return squash(luma, box, self.geometry.size)


def upright(luma: Plane, orientation: Orientation) -> Plane:
    """The upright view of a plane, not copied."""
    return orientation.apply(luma[..., None])[..., 0]
