"""Luma of the active picture: what marks are written into and read from.

Marks live in brightness alone, inside of black bars, squashed to a square whatever the shape of the
picture was. `training/marks/film.py` is the reference: what is here gives the same bytes, for any
format that is decoded. It knows neither marks nor models.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from PIL import Image

__all__ = ["LUMA_SPAN", "Box", "Plane", "active_box", "luma_of", "plane_of", "squash"]

Plane = npt.NDArray[np.uint8]

LUMA_SPAN = 219 / 255
"""One grey level of full range, in levels of limited range (ITU-R BT.601: 16 to 235)."""

# A bar is darker than this, in limited range, but for single bright pixels of noise.
_BLACK = 24
_LIT_PERCENTILE = 90
_PLANAR = frozenset({"yuv420p", "yuv422p", "yuv444p"})


class Box(NamedTuple):
    """Where the active picture is, pixels; bottom and right are exclusive."""

    top: int
    bottom: int
    left: int
    right: int


def plane_of(frame: VideoFrame) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """The first plane of a planar frame, [H, W], not copied; writable where the frame is."""
    plane, bits = frame.planes[0], frame.format.components[0].bits
    kind = np.dtype(np.uint16 if bits > 8 else np.uint8)
    stride = plane.line_size // kind.itemsize
    rows = np.frombuffer(memoryview(plane), kind)[: frame.height * stride]
    return rows.reshape(frame.height, stride)[:, : frame.width]


def luma_of(frame: VideoFrame, reformatter: VideoReformatter) -> Plane:
    """Brightness of a frame, uint8 [H, W], limited range (16 to 235), as it is coded.

    Args:
        frame: Any pixel format that swscale reads.
        reformatter: Converts what is not planar YUV of 8 bits and limited range.

    Raises:
        av.FFmpegError: swscale does not take the frame's format.
    """
    if frame.format.name not in _PLANAR or frame.color_range == ColorRange.JPEG:
        frame = reformatter.reformat(
            frame, format="yuv420p", dst_color_range=ColorRange.MPEG, threads=1
        )
    return np.asarray(plane_of(frame), np.uint8)


def active_box(peak: Plane) -> Box:
    """The picture inside black bars; the whole one where nothing is lit.

    Args:
        peak: uint8 [H, W], the brightest that each pixel became, limited range.
    """
    rows = np.flatnonzero(np.percentile(peak, _LIT_PERCENTILE, axis=1) > _BLACK)
    columns = np.flatnonzero(np.percentile(peak, _LIT_PERCENTILE, axis=0) > _BLACK)
    if not len(rows) or not len(columns):
        return Box(0, peak.shape[0], 0, peak.shape[1])
    return Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def squash(luma: Plane, box: Box, size: int) -> Plane:
    """Full-range luma of the active picture, scaled by a filter that averages.

    Args:
        luma: uint8 [H, W], limited range.
        box: The active picture.
        size: Side of the result, pixels.

    Returns:
        uint8 [size, size], 0 to 255.
    """
    inside = np.ascontiguousarray(luma[box.top : box.bottom, box.left : box.right])
    small = Image.fromarray(inside).convert("F").resize((size, size), Image.Resampling.BILINEAR)
    return np.clip((np.asarray(small) - 16) / LUMA_SPAN + 0.5, 0, 255).astype(np.uint8)
