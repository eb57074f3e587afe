"""Reading marks from clips: views are put back in place, and weights look at pictures alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from engines.runtimes.ort_marks import open_pair
from reelsight.copies.reading import read_marks
from reelsight.copies.texture import texture
from reelsight.copies.views import SEARCH, View, seen_through
from reelsight.engine import EngineHost, FakeEngine, MarkWriter
from reelsight.errors import EngineError
from reelsight.media.luma import Plane
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames
from tests.made_films import Film, pictures
from tests.reference_pair import BITS, SIZE, write_pair

CODE = np.random.default_rng(3).integers(0, 2, BITS).astype(np.float32)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EngineHost, MarkWriter]]:
    opened = open_pair(write_pair(tmp_path_factory.mktemp("pair")))
    host = EngineHost(opened.reader)
    yield host, opened.writer
    host.close()


def frames_of(luma: Plane) -> Frames:
    pixels = np.ascontiguousarray(np.repeat(luma[..., None], 3, axis=-1))
    pts = np.arange(len(luma), dtype=np.float64) / 2
    return Frames("c", pixels, pts, end_s=len(luma) / 2, policy="count:4", asked=len(luma))


def marked(writer: MarkWriter, side: int = SIZE) -> Plane:
    """Four marked pictures of side x side."""
    shown = []
    for picture in pictures(Film(frames=4)):
        grey = Image.fromarray(picture).convert("L")
        small = np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
        drawn = Image.fromarray(writer.residual(small, CODE, 34.0))
        wide = np.asarray(drawn.resize((side, side), Image.Resampling.BICUBIC))
        large = np.asarray(grey.resize((side, side), Image.Resampling.BICUBIC))
        shown.append(np.clip(large + wide + 0.5, 0, 255).astype(np.uint8))
    return np.stack(shown)


def squashed(luma: Plane) -> Plane:
    images = [Image.fromarray(np.ascontiguousarray(picture)) for picture in luma]
    return np.stack([np.asarray(i.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for i in images])


def right(soft: npt.NDArray[np.float32]) -> float:
    return float(((soft.sum(0) > 0) == (CODE > 0.5)).mean())


def as_the_suspect_shows(view: View, large: Plane) -> Plane:
    """What a pirate did, made here by other means than the view undoes it."""
    side = large.shape[1]
    if view.mirrored:
        large = large[:, :, ::-1]
    if view.wide > 1:
        edge = round(side * (view.wide - 1) / 2)
        return squashed(np.pad(large, ((0, 0), (edge, edge), (edge, edge)), constant_values=90))
    across, down = (round(side * (1 - share) / 2) for share in (view.wide, view.high))
    return squashed(large[:, down : side - down, across : side - across])


@pytest.mark.parametrize("view", SEARCH, ids=[view.name for view in SEARCH])
def test_each_view_undoes_what_it_is_for(pair: tuple[EngineHost, MarkWriter], view: View) -> None:
    host, writer = pair
    suspect = as_the_suspect_shows(view, marked(writer, 720))
    clip = Clip("c", "u", width=720, height=720)
    attempts = read_marks(host, clip, frames_of(suspect), SEARCH)
    assert [attempt.view for attempt in attempts] == [each.name for each in SEARCH]
    rates = {attempt.view: right(attempt.soft) for attempt in attempts}
    # Nine sixteenths of the width are the least that is looked for.
    assert rates[view.name] > (0.85 if view.wide < 0.6 else 0.95)
    assert rates[view.name] == max(rates.values())


def test_what_is_read(pair: tuple[EngineHost, MarkWriter]) -> None:
    host, writer = pair
    frames = frames_of(marked(writer))
    clip = Clip("c", "u", width=720, height=720)
    (plain,) = read_marks(host, clip, frames, SEARCH[:1])
    assert (plain.pts == frames.pts).all()
    assert plain.extractor_sha256 == host.spec.onnx_sha256
    assert (plain.presence > 0.9).all()
    assert (plain.quality > 0.3).all()
    unmarked = squashed(
        np.stack([p.mean(axis=2).astype(np.uint8) for p in pictures(Film(frames=4))])
    )
    (null,) = read_marks(host, clip, frames_of(unmarked), SEARCH[:1])
    assert (null.presence < 0.5).all()
    (small,) = read_marks(host, Clip("c", "u", width=16, height=16), frames, SEARCH[:1])
    assert (small.quality == 0).all()


def test_flat_pictures_weigh_nothing() -> None:
    flat = np.full((3, SIZE, SIZE), 128, np.uint8)
    flat[1] += np.arange(SIZE, dtype=np.uint8)[None] // 64
    flat[2, :, SIZE // 2 :] = np.random.default_rng(1).integers(0, 255, (SIZE, SIZE // 2))
    assert texture(flat).tolist() == [0.0, 0.0, 0.5]


def test_a_view_keeps_the_size_and_the_type() -> None:
    luma = np.random.default_rng(1).integers(0, 255, (2, 64, 64), np.uint8)
    for view in SEARCH:
        seen = seen_through(view, luma)
        assert seen.shape == luma.shape
        assert seen.dtype == np.uint8
        assert seen.flags.c_contiguous
    assert (seen_through(SEARCH[0], luma) == luma).all()


def test_an_engine_of_embeddings_is_refused() -> None:
    host = EngineHost(FakeEngine())
    with pytest.raises(EngineError) as caught:
        read_marks(host, Clip("c", "u"), frames_of(np.zeros((1, 64, 64), np.uint8)))
    host.close()
    assert caught.value.code == "engine.no_extractor"
