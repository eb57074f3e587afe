"""Marker: draws a code into the luma of a film's pictures, one after the other.

Every fourth picture, at a cut and where the code changes, the residual is drawn anew; the pictures
between share it. Chroma, bars and everything beside the pixels stay as they are. What it does to
planar 8-bit pictures of limited range is what `training/marks/film.py` does, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from PIL import Image

from reelsight.copies.likeness import Likeness
from reelsight.engine.protocol import MarkWriter
from reelsight.media.active_scaler import Boxes, upright
from reelsight.media.luma import LUMA_SPAN, Box, active_box, luma_of, plane_of, squash
from reelsight.media.orientation import orientation_of
from reelsight.media.scene import Signature, change, signature

__all__ = ["FORMATS", "CodeAt", "Marker"]

CodeAt = Callable[[float], npt.NDArray[np.float32]]
"""The code at a time of the asset, seconds: float32 [bits], 0 and 1."""

FORMATS = frozenset(
    f"yuv{full}{chroma}p{deep}"
    for chroma in (420, 422, 444)
    for full, deep in (("", ""), ("j", ""), ("", "10le"))
)
"""Pixel formats that are marked as they are."""

_EVERY = 4
_CUT = 0.3


class Marker:
    """Marks one film.

    Args:
        writer: Draws residuals.
        code_at: What is written when.
        strength_db: PSNR of a residual, dB.
        boxes: Active pictures of the film.

    Attributes:
        likeness: Of the active pictures before and after.
    """

    def __init__(
        self, writer: MarkWriter, code_at: CodeAt, strength_db: float, boxes: Boxes
    ) -> None:
        self._writer, self._code_at = writer, code_at
        self._strength_db, self._boxes = strength_db, boxes
        self._reformatter = VideoReformatter()
        self._left = 0
        self._look: Signature | None = None
        self._code: npt.NDArray[np.float32] | None = None
        self._box: Box | None = None
        self._shape: tuple[int, ...] = ()
        self._wide: npt.NDArray[np.float32] = np.zeros((0, 0), np.float32)
        self.likeness = Likeness()

    def mark(self, frame: VideoFrame, at_s: float) -> None:
        """Mark a picture in place.

        Args:
            frame: Of one of FORMATS.
            at_s: Seconds since the film's first picture.

        Raises:
            EngineError: The writer failed.
        """
        frame.make_writable()
        orientation = orientation_of(frame)
        drawn = self._renewed(frame, at_s)
        box = self._box
        if box is None:
            return
        plane: npt.NDArray[Any] = plane_of(frame)
        shown = upright(plane, orientation)
        inside = shown[box.top : box.bottom, box.left : box.right]
        before = inside.astype(np.float32)
        depth = 1 << (frame.format.components[0].bits - 8)
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        low, high = (0, 255) if full else (16, 235)
        level = depth * (1.0 if full else LUMA_SPAN)
        # What lies beyond the range already is not pulled into it.
        least, most = min(low * depth, before.min()), max(high * depth, before.max())
        after = np.clip(before + self._wide * np.float32(level) + np.float32(0.5), least, most)
        inside[:] = after.astype(plane.dtype)
        written = inside.astype(np.float32)
        self.likeness.add(before, written, level)
        if drawn:
            self.likeness.add_structure(before, written, level)

    def _renewed(self, frame: VideoFrame, at_s: float) -> bool:
        """Draw the residual anew where it is due; says whether it was."""
        code, look = self._code_at(at_s), signature(frame)
        cut = self._look is None or change(self._look, look) > _CUT
        self._look = look
        self._left -= 1
        same = self._code is not None and bool((code == self._code).all())
        shape = _shape(frame)
        if self._left > 0 and not cut and same and self._shape == shape:
            return False
        self._left, self._code, self._shape = _EVERY, code, shape
        luma = upright(luma_of(frame, self._reformatter), orientation_of(frame))
        box = self._boxes.get((luma.shape[0], luma.shape[1])) or active_box(luma)
        small = squash(luma, box, self._writer.size)
        residual = Image.fromarray(self._writer.residual(small, code, self._strength_db))
        sides = (box.right - box.left, box.bottom - box.top)
        self._wide = np.asarray(residual.resize(sides, Image.Resampling.BICUBIC), np.float32)
        self._box = box
        return True


def _shape(frame: VideoFrame) -> tuple[int, ...]:
    orientation = orientation_of(frame)
    return frame.width, frame.height, orientation.degrees, orientation.flip_columns
