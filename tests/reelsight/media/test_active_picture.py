"""Geometry `active`: the luma of what is inside of black bars, whatever the clip looks like."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from reelsight.media.decode import decode
from reelsight.media.decoder import Decoding, open_decoder
from reelsight.media.limits import MediaLimits
from reelsight.media.luma import Box, active_box
from reelsight.media.pixels import Scaler
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from tests.made_films import Film, pictures, write_film, write_pictures

ACTIVE = Geometry(64, "active")
EACH = Sampling("rate", rate=24.0)
# Lossy coding, and chroma that RGB and back moves: a few levels, where another crop moves dozens.
_MOST_MEAN = 2.5


def luma(path: Path, sampling: Sampling = EACH) -> npt.NDArray[np.float64]:
    data = path.read_bytes()
    _, frames = decode("c", "u", data, sampling, ACTIVE, MediaLimits())
    assert (frames.pixels == frames.pixels[..., :1]).all()
    return frames.pixels[..., 0].astype(float)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> npt.NDArray[np.float64]:
    return luma(write_film(tmp_path_factory.mktemp("film") / "a.mp4", Film(frames=12)))


@pytest.mark.parametrize(
    "film",
    [
        Film(frames=12, height=240, bars=30),
        Film(frames=12, rotation=90),
        Film(frames=12, rotation=270),
        Film(frames=12, full_range=True, pix_fmt="yuvj420p"),
        Film(frames=12, pix_fmt="yuv444p"),
        Film(frames=12, pix_fmt="yuv420p10le"),
    ],
    ids=["bars", "turned", "turned back", "full range", "all chroma", "10 bits"],
)
def test_the_same_picture_is_found(
    tmp_path: Path, plain: npt.NDArray[np.float64], film: Film
) -> None:
    found = luma(write_film(tmp_path / "b.mp4", film))
    assert found.shape == plain.shape
    assert np.abs(found - plain).mean() < _MOST_MEAN


def test_bars_are_those_that_last(tmp_path: Path) -> None:
    """What is dark in some pictures is no bar: all of them are looked at before any is scaled."""
    film = Film(frames=24)
    shown = pictures(film).copy()
    shown[:12, film.height // 2 :] = 0
    found = luma(write_pictures(tmp_path / "a.mp4", film, shown))
    assert found[:11, 40:].max() < 24
    assert found[:11, :24].mean() > 24
    assert found[13:, 40:].mean() > 24


def test_boxes_by_hand() -> None:
    peak = np.full((40, 60), 16, np.uint8)
    assert active_box(peak) == Box(0, 40, 0, 60)
    peak[5:35, 10:50] = 100
    peak[2, 7] = 235
    assert active_box(peak) == Box(5, 35, 10, 50)
    peak[5:35] = 24
    assert active_box(peak) == Box(0, 40, 0, 60)


def test_a_child_gives_the_same(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", Film(frames=12, height=240, bars=30))
    decoder = open_decoder(Decoding(), EACH)
    try:
        _, frames = decoder.decode("c", "u", path.read_bytes(), EACH, ACTIVE, MediaLimits())
    finally:
        decoder.close()
    assert (frames.pixels[..., 0] == luma(path)).all()


def test_a_still_is_searched_for_bars_too(tmp_path: Path) -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    rng = np.random.default_rng(1)
    picture[20:100] = rng.integers(60, 200, (80, 160, 1), np.uint8)
    data = io.BytesIO()
    Image.fromarray(picture).save(data, format="PNG")
    _, frames = decode("c", "u", data.getvalue(), EACH, ACTIVE, MediaLimits())
    assert frames.pixels.shape == (1, 64, 64, 3)
    assert frames.pixels.min() > 60


def test_rgb_scaling_refuses() -> None:
    with pytest.raises(ValueError, match="active"):
        Scaler(ACTIVE)
