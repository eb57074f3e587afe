"""Scaler: one decoded picture to one upright, square RGB picture of the engine's size.

The whole path is one swscale pass, from YUV at the source's size to RGB at the target's: bicubic
widened to the scale (so antialiased), rounded accurately, with full chroma. It stays close to PIL's
bicubic on the full RGB picture, which is the models' reference preprocessing. No tone mapping:
HDR transfer curves pass through. Interlaced pictures are taken as they are, both fields together.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from reelsight.media.orientation import UPRIGHT, Orientation
from reelsight.nouns.engine_spec import Geometry

__all__ = ["FrameScaler", "Scaler", "crop_origin", "matrix_of", "resize_rgb", "scaled_size"]

_FLAGS = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
# Which channel of RGB each plane of gbrp is.
_CHANNELS = (1, 2, 0)
# AVColorSpace -> swscale's matrix. 0 is RGB, left alone; anything absent is guessed from the size.
_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}


def matrix_of(frame: VideoFrame) -> Colorspace | None:
    """YUV matrix of a frame; None for RGB.

    Unspecified means BT.709 from 1280 pixels of width or above 576 lines, else BT.601: the guess
    that mpv makes, so that we see what viewers see.
    """
    if frame.colorspace == 0 and frame.format.is_rgb:
        return None
    guess = Colorspace.ITU709 if frame.width >= 1280 or frame.height > 576 else Colorspace.ITU601
    return _MATRIX.get(frame.colorspace, guess)


def scaled_size(width: int, height: int, sar: Fraction, geometry: Geometry) -> tuple[int, int]:
    """Width and height in pixels after scaling, before any crop (torchvision's rounding)."""
    size = geometry.size
    if geometry.mode != "shortest":
        return size, size
    wide, high = width * sar, Fraction(height)
    if wide >= high:
        return max(size, int(size * wide / high)), size
    return size, max(size, int(size * high / wide))


def crop_origin(length: int, size: int) -> int:
    """First row or column of a central crop (torchvision's rounding)."""
    return round((length - size) / 2.0)


class FrameScaler(Protocol):
    """What becomes of a frame that was sampled."""

    geometry: Geometry

    def scale_into(
        self,
        out: npt.NDArray[np.uint8],
        frame: VideoFrame,
        sar: Fraction = ...,
        orientation: Orientation = ...,
    ) -> None:
        """Write the picture of `frame` into `out`; see `Scaler.scale_into`."""


class Scaler:
    """Scales decoded frames; keeps swscale's tables between frames of one format.

    Not safe to share between threads. Holds no picture.

    Args:
        geometry: Of mode `squash` or `shortest`; `active` has scalers of its own.

    Raises:
        ValueError: It is of mode `active`.
    """

    def __init__(self, geometry: Geometry) -> None:
        if geometry.mode == "active":
            raise ValueError("RGB scaling knows no active picture")
        self.geometry = geometry
        self._reformatter = VideoReformatter()

    def scale_into(
        self,
        out: npt.NDArray[np.uint8],
        frame: VideoFrame,
        sar: Fraction = Fraction(1),
        orientation: Orientation = UPRIGHT,
    ) -> None:
        """Write the upright square picture of `frame` into `out`, uint8 [size, size, 3].

        Args:
            out: Destination, overwritten.
            frame: Any pixel format swscale reads.
            sar: Width of a source pixel over its height.
            orientation: Applied after scaling, before the crop.

        Raises:
            av.FFmpegError: swscale does not take the frame's format.
        """
        size = self.geometry.size
        width, height = scaled_size(frame.width, frame.height, sar, self.geometry)
        scaled = self._scaled(frame, width, height)
        for channel, plane in zip(_CHANNELS, scaled.planes, strict=True):
            rows = np.frombuffer(memoryview(plane), np.uint8)[: height * plane.line_size]
            rows = rows.reshape(height, plane.line_size, 1)[:, :width]
            image = orientation.apply(rows)
            top, left = crop_origin(image.shape[0], size), crop_origin(image.shape[1], size)
            out[..., channel] = image[top : top + size, left : left + size, 0]

    def _scaled(self, frame: VideoFrame, width: int, height: int) -> VideoFrame:
        # Planes, because swscale writes them with vector instructions and interleaved pixels one by
        # one; the numbers are the same.
        return self._reformatter.reformat(
            frame,
            width,
            height,
            "gbrp",
            src_colorspace=matrix_of(frame),
            interpolation=_FLAGS,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )


def resize_rgb(image: npt.NDArray[np.uint8], geometry: Geometry) -> npt.NDArray[np.uint8]:
    """The same scaling for a picture that is RGB already.

    Args:
        image: uint8 [H, W, 3] RGB, square pixels, upright.
        geometry: Target.

    Returns:
        uint8 [size, size, 3] RGB, C-contiguous.
    """
    out = np.empty((geometry.size, geometry.size, 3), np.uint8)
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    Scaler(geometry).scale_into(out, frame)
    return out
