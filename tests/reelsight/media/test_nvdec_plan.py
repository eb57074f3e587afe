"""The plan that surfaces are scaled by, done in numpy, against the Scaler of every other path."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import Colorspace

from reelsight.media.backends.device_plan import PicturePlan, Yuv, plan_picture
from reelsight.media.orientation import Orientation, orientation_of
from reelsight.media.pixels import Scaler, matrix_of
from reelsight.nouns.engine_spec import Geometry
from tests.reelsight.media.moving_clips import coded
from tests.reelsight.media.truth_clips import CASES, make

# Mean and 99th percentile of |plan - Scaler| in grey levels of 255. Both filter alike, and swscale
# rounds between its steps. Chroma half a column off is 0.5 and 15, the other matrix 9 and 24.
MEAN, P99 = 0.05, 1.0
GEOMETRIES = [Geometry(224), Geometry(224, "shortest"), Geometry(64)]
LEFT = ("h264", "hevc")

Picture = npt.NDArray[np.uint8]


def pictures(data: bytes, *numbers: int) -> tuple[str, list[av.VideoFrame]]:
    with av.open(io.BytesIO(data), mode="r") as container:
        frames = list(container.decode(video=0))
        codec = container.streams.video[0].codec_context.codec.canonical_name
    return codec, [frames[number] for number in numbers]


def yuv_of(frame: av.VideoFrame, codec: str) -> Yuv:
    matrix = matrix_of(frame)
    assert matrix is not None
    full = frame.color_range == 2 or frame.format.name.startswith("yuvj")
    bits = 10 if frame.format.name.endswith("10le") else 8
    return Yuv(frame.width, frame.height, matrix, full, codec in LEFT, bits)


def planned(plan: PicturePlan, frame: av.VideoFrame) -> Picture:
    kind = np.uint16 if frame.format.name.endswith("10le") else np.uint8
    planes: list[npt.NDArray[Any]] = [
        np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]
    luma = plan.luma_rows @ planes[0] @ plan.luma_columns.T
    chroma = [plan.chroma_rows @ plane @ plan.chroma_columns.T for plane in planes[1:]]
    scaled = np.stack([luma, *chroma], axis=-1)
    if plan.transpose:
        scaled = scaled.transpose(1, 0, 2)
    rgb = scaled @ plan.colours.T + plan.offset
    return rgb.clip(0, 255).round().astype(np.uint8)


def assert_like_the_scaler(
    frame: av.VideoFrame,
    codec: str,
    geometry: Geometry,
    sar: Fraction = Fraction(1),
    orientation: Orientation | None = None,
) -> None:
    turn = orientation or orientation_of(frame)
    ours = planned(plan_picture(yuv_of(frame, codec), sar, turn, geometry), frame)
    theirs = np.empty_like(ours)
    Scaler(geometry).scale_into(theirs, frame, sar, turn)
    error = np.abs(ours.astype(int) - theirs)
    assert error.mean() <= MEAN, f"mean {error.mean():.3f}"
    assert np.percentile(error, 99) <= P99, f"p99 {np.percentile(error, 99):.1f}"


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(
    "name",
    [
        "h264", "hevc", "vp9", "av1", "rotation 90", "rotation 180", "rotation 270", "10 bit h264",
        "10 bit hevc", "10 bit av1", "bt601 full", "bt709 limited", "bt709 full",
        "matrix untold, large", "odd size",
    ],
)  # fmt: skip
def test_charts_come_out_as_from_the_scaler(name: str, geometry: Geometry) -> None:
    codec, frames = pictures(make(CASES[name]), 0, 21)
    for frame in frames:
        assert_like_the_scaler(frame, codec, geometry)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", ["h264 pyramid", "hevc", "vp9", "av1"])
def test_textures_come_out_as_from_the_scaler(name: str, geometry: Geometry) -> None:
    codec, frames = pictures(coded(name), 7, 40)
    for frame in frames:
        assert_like_the_scaler(frame, codec, geometry)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("sar", [Fraction(4, 3), Fraction(8, 9)])
def test_pixels_that_are_not_square(sar: Fraction, geometry: Geometry) -> None:
    codec, frames = pictures(coded("h264 no B"), 11)
    assert_like_the_scaler(frames[0], codec, geometry, sar)
    assert_like_the_scaler(frames[0], codec, geometry, sar, Orientation(transpose=True))


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flips", [(False, True), (True, False), (True, True)])
def test_every_turn_and_mirror(transpose: bool, flips: tuple[bool, bool]) -> None:
    codec, frames = pictures(coded("h264 no B"), 11)
    for geometry in GEOMETRIES:
        turn = Orientation(transpose, *flips)
        assert_like_the_scaler(frames[0], codec, geometry, orientation=turn)


@pytest.mark.parametrize("wrong", [{"left": False}, {"full": True}, {"matrix": Colorspace.ITU709}])
def test_a_wrong_reading_of_the_numbers_is_far_beyond_the_levels(wrong: dict[str, Any]) -> None:
    codec, frames = pictures(coded("h264 no B"), 11)
    right = yuv_of(frames[0], codec)
    fields: dict[str, Any] = {
        "width": 192,
        "height": 128,
        "matrix": right.matrix,
        "full": False,
        "left": True,
    }
    plain, changed = (
        planned(plan_picture(yuv, Fraction(1), Orientation(), Geometry(64)), frames[0])
        for yuv in (Yuv(**fields), Yuv(**fields | wrong))
    )
    assert right == Yuv(**fields)
    assert np.abs(plain.astype(int) - changed).mean() > 20 * MEAN


def test_weights_sum_to_one_and_a_flat_picture_stays_flat() -> None:
    codec, frames = pictures(make(CASES["h264"]), 0)
    plan = plan_picture(yuv_of(frames[0], codec), Fraction(1), Orientation(), Geometry(224))
    for weights in (plan.luma_rows, plan.luma_columns, plan.chroma_rows, plan.chroma_columns):
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
        assert weights.dtype == np.float32
