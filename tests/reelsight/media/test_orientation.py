from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.orientation import UPRIGHT, Orientation, orientation_of
from reelsight.media.probe import probe
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry, ResizeMode

LIMITS = MediaLimits()
FIVE = tuple(range(1, 6))


@pytest.mark.parametrize("mode", ["squash", "shortest"])
@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_every_display_matrix_comes_out_upright(
    coded: Callable[..., bytes],
    shown: Callable[[npt.NDArray[np.uint8]], int],
    rotation: int,
    hflip: bool,
    mode: ResizeMode,
) -> None:
    size = {"width": 96, "height": 96} if mode == "shortest" else {"width": 128, "height": 96}
    data = coded(stamps=tuple(range(20)), clock=10, rotation=rotation, hflip=hflip, **size)
    clip, frames = decode("c", "c.mp4", data, Sampling(rate=10), Geometry(64, mode), LIMITS)
    assert [shown(image) for image in frames.pixels] == list(range(20))
    expected = (size["height"], size["width"]) if rotation % 180 else tuple(size.values())
    assert (clip.width, clip.height) == expected
    assert hflip or clip.rotation == rotation


def test_the_rotated_file_is_upright(videos_dir: Path) -> None:
    path = videos_dir / "rotated_90.mov"
    clip, frames = decode(
        "r", str(path), path.read_bytes(), Sampling(), Geometry(160, "shortest"), LIMITS
    )
    assert (clip.width, clip.height, clip.rotation) == (320, 568, 90)
    with av.open(str(path)) as container:
        coded_picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    upright = np.rot90(coded_picture, -1)[124:-124][::2, ::2]
    error = np.abs(upright.astype(int) - frames.pixels[0].astype(int)).mean()
    sideways = np.abs(np.rot90(upright).astype(int) - frames.pixels[0].astype(int)).mean()
    assert error < 12 < sideways


@pytest.mark.parametrize(
    ("orientation", "corner", "degrees"),
    [
        (UPRIGHT, (0, 0), 0),
        (Orientation(True, flip_columns=True), (0, 1), 90),
        (Orientation(False, True, True), (1, 1), 180),
        (Orientation(True, flip_rows=True), (1, 0), 270),
        (Orientation(False, flip_columns=True), (0, 1), 0),
    ],
)
def test_where_the_first_corner_goes(
    orientation: Orientation, corner: tuple[int, int], degrees: int
) -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 255
    assert orientation.apply(image)[corner].all()
    assert orientation.degrees == degrees


def test_a_frame_without_a_matrix_is_upright() -> None:
    assert orientation_of(av.VideoFrame(16, 16, "yuv420p")) == UPRIGHT


def test_probe_tells_the_display_size(coded: Callable[..., bytes]) -> None:
    header = probe(coded(stamps=FIVE, clock=10, rotation=270), LIMITS)
    assert (header.width, header.height, header.rotation) == (96, 128, 270)
