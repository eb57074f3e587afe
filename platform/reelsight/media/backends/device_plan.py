"""How one clip's pictures become small upright RGB: weights and a matrix, before any device.

A scaled picture is two matrix products per plane, rows @ plane @ columns^T. The weights are those
of swscale's bicubic, as media/pixels.py asks for it: widened to the scale (so antialiased), edges
repeated. Turn and central crop are a choice of rows and columns. It knows numpy and no device.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace

from reelsight.media.orientation import Orientation
from reelsight.media.pixels import crop_origin, scaled_size
from reelsight.nouns.engine_spec import Geometry

__all__ = ["PicturePlan", "Yuv", "plan_picture"]

Floats = npt.NDArray[np.float32]

# swscale's cubic is Keys' with a = -C, and its C is 0.6 where PIL's is 0.5.
_CUBIC = -0.6
# Kr and Kb of ITU-R BT.709, FCC 73.682, BT.601, SMPTE 240M and BT.2020.
_WEIGHTS = {
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}


@dataclass(frozen=True, slots=True)
class Yuv:
    """What the numbers in a 4:2:0 picture mean.

    Attributes:
        width: Pixels of luma.
        height: Pixels of luma.
        matrix: Of the conversion to RGB.
        full: Whether luma runs over all values, not 16 to 235 of 255.
        left: Whether a chroma sample lies on the left one of its luma columns and not between the
            two. Rows always lie between.
        bits: Of a sample, 8 or 10.
    """

    width: int
    height: int
    matrix: Colorspace
    full: bool
    left: bool
    bits: int = 8

    @property
    def chroma(self) -> tuple[int, int]:
        """Width and height of a chroma plane."""
        return -(-self.width // 2), -(-self.height // 2)


@dataclass(frozen=True, slots=True, eq=False)
class PicturePlan:
    """Everything that is the same for all pictures of a clip, S the side of the target.

    With samples as they are coded, `luma_rows @ Y @ luma_columns.T` is the scaled luma plane,
    likewise for chroma, and `colours @ (Y, Cb, Cr) + offset` is RGB from 0 to 255, to be clipped
    and rounded.

    Attributes:
        luma_rows: float32 [S, H].
        luma_columns: float32 [S, W].
        chroma_rows: float32 [S, H / 2], rounded up.
        chroma_columns: float32 [S, W / 2], rounded up.
        transpose: Whether rows and columns are swapped at the end.
        colours: float32 [3, 3].
        offset: float32 [3].
    """

    luma_rows: Floats
    luma_columns: Floats
    chroma_rows: Floats
    chroma_columns: Floats
    transpose: bool
    colours: Floats
    offset: Floats


def plan_picture(
    yuv: Yuv, sar: Fraction, orientation: Orientation, geometry: Geometry
) -> PicturePlan:
    """The plan of a clip.

    Args:
        yuv: Its pictures as they are coded.
        sar: Width of a coded pixel over its height.
        orientation: How a coded picture turns upright.
        geometry: The target.
    """
    size = geometry.size
    wide, high = scaled_size(yuv.width, yuv.height, sar, geometry)
    upright = (wide, high) if orientation.transpose else (high, wide)
    shown = [
        _shown(length, size, flipped)
        for length, flipped in zip(
            upright, (orientation.flip_rows, orientation.flip_columns), strict=True
        )
    ]
    columns, rows = shown if orientation.transpose else shown[::-1]
    chroma_width, chroma_height = yuv.chroma
    colours, offset = _conversion(yuv)
    return PicturePlan(
        luma_rows=_cubic(yuv.height, high)[rows],
        luma_columns=_cubic(yuv.width, wide)[columns],
        chroma_rows=_cubic(chroma_height, high)[rows],
        chroma_columns=_cubic(chroma_width, wide, shift=0.25 if yuv.left else 0.0)[columns],
        transpose=orientation.transpose,
        colours=colours,
        offset=offset,
    )


def _shown(length: int, size: int, flipped: bool) -> npt.NDArray[np.intp]:
    """Which of `length` scaled rows or columns are seen after the flip and the crop, in order."""
    order = np.arange(length)[:: -1 if flipped else 1]
    start = crop_origin(length, size)
    return order[start : start + size]


def _cubic(source: int, target: int, shift: float = 0.0) -> Floats:
    """Weights [target, source] that scale a line of samples; each row sums to 1.

    `shift` is how far the samples lie before the middles of equal parts, in samples.
    """
    scale = max(source / target, 1.0)
    centre = (np.arange(target) + 0.5) * source / target - 0.5 + shift
    taps = np.arange(-int(2 * scale) - 2, int(2 * scale) + 3)
    at = np.floor(centre)[:, None] + taps
    weight = _keys((at - centre[:, None]) / scale)
    weight /= weight.sum(axis=1, keepdims=True)
    found = np.zeros((target, source))
    # What lies beyond an edge counts for the sample at the edge.
    within = at.clip(0, source - 1).astype(int)
    np.add.at(found, (np.arange(target)[:, None], within), weight)
    return found.astype(np.float32)


def _keys(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel (IEEE Trans. ASSP 29, 1981) with the free constant above."""
    x, a = np.abs(x), _CUBIC
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def _conversion(yuv: Yuv) -> tuple[Floats, Floats]:
    """RGB = colours @ (Y, Cb, Cr) + offset, by the equations of ITU-R BT.601, 3.5."""
    kr, kb = _WEIGHTS[yuv.matrix]
    kg = 1 - kr - kb
    step = 1 << (yuv.bits - 8)
    if yuv.full:
        black, luma, chroma = 0.0, 256.0 * step - 1, 256.0 * step - 1
    else:
        black, luma, chroma = 16.0 * step, 219.0 * step, 224.0 * step
    red, blue = 2 - 2 * kr, 2 - 2 * kb
    colours = 255 * np.array(
        [
            [1 / luma, 0, red / chroma],
            [1 / luma, -blue * kb / kg / chroma, -red * kr / kg / chroma],
            [1 / luma, blue / chroma, 0],
        ]
    )
    offset = -colours @ np.array([black, 128.0 * step, 128.0 * step])
    return colours.astype(np.float32), offset.astype(np.float32)
