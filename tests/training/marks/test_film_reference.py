"""What reads clips gives the bytes of the training's own reference, for every kind of clip."""

from __future__ import annotations

from pathlib import Path

import pytest

from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.luma import Plane
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from tests.made_films import Film, write_film
from training.marks.film import active_box, read_film, squash

SIZE = 256


def _both(path: Path, width: int) -> tuple[Plane, Plane]:
    _, frames = decode(
        "c",
        "u",
        path.read_bytes(),
        Sampling("rate", rate=120.0),
        Geometry(SIZE, "active"),
        MediaLimits(),
    )
    reference = read_film(path, first=0, count=len(frames), width=width)
    return frames.pixels[..., 0], squash(reference, active_box(reference), SIZE)


@pytest.mark.parametrize(
    "film",
    [
        Film(frames=12),
        Film(frames=12, height=240, bars=30),
        Film(frames=12, full_range=True, pix_fmt="yuvj420p"),
        Film(frames=12, pix_fmt="yuv422p"),
        Film(frames=12, pix_fmt="yuv420p10le"),
    ],
    ids=["plain", "bars", "full range", "half chroma", "10 bits"],
)
def test_made_films(tmp_path: Path, film: Film) -> None:
    ours, theirs = _both(write_film(tmp_path / "a.mp4", film), film.width)
    assert (ours == theirs).all()


@pytest.mark.parametrize(
    ("name", "width"),
    [("short_h265.mp4", 128), ("short_h265_10bit.mp4", 200), ("bt709_full_range.mp4", 1280)],
)
def test_real_films(videos_dir: Path, name: str, width: int) -> None:
    ours, theirs = _both(videos_dir / name, width)
    assert (ours == theirs).all()
