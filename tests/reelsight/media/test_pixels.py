from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.video.reformatter import ColorRange, Interpolation
from PIL import Image

from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.pixels import (
    Scaler,
    crop_origin,
    matrix_of,
    resize_rgb,
    scaled_size,
)
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry

# Mean and 99th percentile of |ours - PIL bicubic on the full RGB picture|, in grey levels of 255.
# swscale's cubic has C = 0.6 where PIL's has 0.5, and it filters before it clips to 0..255.
MEAN, P99 = 1.0, 20.0
# A flat colour through an 8-bit YUV code and back: rounding of three channels twice.
FLAT = 3

Picture = npt.NDArray[np.uint8]
REAL = [
    "street_30s_h264.mp4",
    "pancake_h264.mkv",
    "nasa_multistream_h264.mp4",
    "bt709_full_range.mp4",
    "rotated_90.mov",
    "short_av1.mkv",
    "short_h265_10bit.mp4",
]


def first_frame(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        stream = max(container.streams.video, key=lambda video: video.width)
        return next(container.decode(stream))


def full_rgb(frame: av.VideoFrame) -> Picture:
    """The whole picture as RGB: the input of the models' reference preprocessing."""
    flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
    flags |= Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
    picture = frame.reformat(
        format="rgb24",
        src_colorspace=matrix_of(frame),
        dst_color_range=ColorRange.JPEG,
        interpolation=flags,
    ).to_ndarray()
    return np.asarray(picture, np.uint8)


def reference(picture: Picture, geometry: Geometry) -> Picture:
    """PIL bicubic with torchvision's resize and centre crop rules."""
    height, width = picture.shape[:2]
    wide, high = scaled_size(width, height, Fraction(1), geometry)
    resized = Image.fromarray(picture).resize((wide, high), Image.Resampling.BICUBIC)
    left, top = crop_origin(wide, geometry.size), crop_origin(high, geometry.size)
    box = (left, top, left + geometry.size, top + geometry.size)
    return np.asarray(resized.crop(box), np.uint8)


def assert_close(ours: Picture, theirs: Picture) -> None:
    error = np.abs(ours.astype(int) - theirs.astype(int))
    assert error.mean() <= MEAN, f"mean {error.mean():.2f}"
    assert np.percentile(error, 99) <= P99, f"p99 {np.percentile(error, 99):.1f}"


@pytest.mark.parametrize("geometry", [Geometry(224), Geometry(224, "shortest"), Geometry(64)])
@pytest.mark.parametrize("name", REAL)
def test_scaling_is_close_to_pil_on_real_frames(
    videos_dir: Path, name: str, geometry: Geometry
) -> None:
    frame = first_frame(videos_dir / name)
    out = np.empty((geometry.size, geometry.size, 3), np.uint8)
    Scaler(geometry).scale_into(out, frame)
    assert_close(out, reference(full_rgb(frame), geometry))


@pytest.mark.parametrize("geometry", [Geometry(64), Geometry(64, "shortest")])
def test_rgb_pictures_take_the_same_path(videos_dir: Path, geometry: Geometry) -> None:
    picture = full_rgb(first_frame(videos_dir / "pancake_h264.mkv"))
    ours = resize_rgb(picture, geometry)
    assert ours.shape == (64, 64, 3)
    assert ours.flags.c_contiguous
    assert_close(ours, reference(picture, geometry))


def test_a_picture_of_the_target_size_is_untouched() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert (resize_rgb(picture, Geometry(32)) == picture).all()


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = resize_rgb(stripes, Geometry(32))[2:-2, 2:-2]
    assert np.abs(inner.astype(int) - 127).max() <= 4


@pytest.mark.parametrize(
    ("size", "sar", "mode", "scaled"),
    [
        ((1920, 1080), 1, "squash", (224, 224)),
        ((1920, 1080), 1, "shortest", (398, 224)),
        ((720, 1280), 1, "shortest", (224, 398)),
        ((720, 576), Fraction(64, 45), "shortest", (398, 224)),
        ((101, 99), 1, "shortest", (228, 224)),
        ((64, 64), 1, "shortest", (224, 224)),
    ],
)
def test_sizes_follow_torchvision(
    size: tuple[int, int], sar: Fraction | int, mode: Any, scaled: tuple[int, int]
) -> None:
    assert scaled_size(*size, Fraction(sar), Geometry(224, mode)) == scaled


def test_an_unsaid_matrix_is_guessed_from_the_size() -> None:
    def guess(width: int, height: int) -> Any:
        return matrix_of(av.VideoFrame(width, height, "yuv420p"))

    assert guess(854, 480) == guess(720, 576) == 5
    assert guess(1280, 720) == guess(720, 1280) == 1
    assert matrix_of(av.VideoFrame.from_ndarray(np.zeros((2, 2, 3), np.uint8))) is not None


COLOURS = [(255, 255, 255), (0, 0, 0), (200, 40, 40), (40, 180, 60), (30, 60, 220), (128, 128, 128)]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9])
def test_colours_survive_every_matrix_and_range(
    coded: Callable[..., bytes], colour: tuple[int, int, int], full_range: bool, matrix: int
) -> None:
    pix_fmt = "yuvj420p" if full_range else "yuv420p"
    fields = {"matrix": matrix, "full_range": full_range, "pix_fmt": pix_fmt, "colour": colour}
    data = coded(stamps=(0, 1), clock=25, options=(("preset", "ultrafast"), ("crf", "4")), **fields)
    _, frames = decode("c", "c.mp4", data, Sampling(), Geometry(32), MediaLimits())
    assert np.abs(frames.pixels[0].astype(int) - colour).max() <= FLAT


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_survive_ten_bits(
    coded: Callable[..., bytes], colour: tuple[int, int, int], full_range: bool
) -> None:
    # With B-frames x265 now and then gives a clip of two pictures stamps that no muxer takes.
    options = (("preset", "ultrafast"), ("x265-params", "log-level=none:crf=4:bframes=0"))
    fields = {
        "codec": "libx265",
        "options": options,
        "pix_fmt": "yuv420p10le",
        "full_range": full_range,
    }
    data = coded(stamps=(0, 1), clock=25, colour=colour, **fields)
    _, frames = decode("c", "c.mp4", data, Sampling(), Geometry(32), MediaLimits())
    assert np.abs(frames.pixels[0].astype(int) - colour).max() <= FLAT
