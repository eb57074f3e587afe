"""What reads clips gives the bytes of the training's own reference, for every kind of clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.runtimes.ort_marks import open_pair
from reelsight.copies.embedding import Embedder
from reelsight.copies.encoder import EncoderSettings
from reelsight.engine import EngineHost
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.luma import Plane
from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry
from tests.made_films import Film, write_film
from tests.reference_pair import write_pair
from training.marks.film import Pair, active_box, mark_film, read_film, squash

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


@pytest.mark.parametrize("film", [Film(frames=30), Film(frames=30, height=240, bars=30)])
def test_marking_is_that_of_the_reference(tmp_path: Path, film: Film) -> None:
    """Encoded without loss, a copy is what the reference makes of the same pictures."""
    asset = write_film(tmp_path / "asset.mp4", film)
    directory = write_pair(tmp_path / "pair")
    code = np.random.default_rng(3).integers(0, 2, 64).astype(np.float32)
    opened = open_pair(directory)
    host = EngineHost(opened.reader)
    lossless = EncoderSettings(crf=0.0, preset="veryfast")
    embedder = Embedder(opened.writer, host, MediaLimits(), strength_db=38.0, encoding=lossless)
    try:
        embedder.embed(asset, tmp_path / "copy.mp4", lambda _: code)
    finally:
        host.close()
    before = read_film(asset, first=0, count=film.frames, width=film.width)
    after = read_film(tmp_path / "copy.mp4", first=0, count=film.frames, width=film.width)
    expected, _ = mark_film(before, Pair(directory), code, strength=38.0)
    assert (after == expected).all()
