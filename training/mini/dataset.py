"""Frames with known labels, composed on the fly by many processes.

Three splits share no photograph and no seed: `train`, `threshold` (to fit thresholds) and `heldout`
(to report). Frames are degraded as uploads are - recompressed, rescaled, re-lit - and end as the
224-pixel squash that the model sees.
"""

from __future__ import annotations

import io
import mmap
import multiprocessing as mp
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance

from reelsight.samples.canvas import Pixels
from reelsight.samples.scene import compose, draw_labels
from reelsight.samples.vocabulary import group_of, names

__all__ = ["SPLITS", "FrameFactory", "Photos", "Split", "fixed_set", "make_frame"]

SIZE = 224
# Photographs that already show what a label names, or text and screens of their own.
_EXCLUDED = {
    *("web_site", "comic_book", "menu", "crossword_puzzle", "television", "screen", "monitor"),
    *("scoreboard", "digital_clock", "volcano", "jigsaw_puzzle", "book_jacket", "fire_screen"),
    *("projector", "home_theater", "cinema", "hand-held_computer", "iPod", "matchstick", "candle"),
    *("packet", "maze", "street_sign", "analog_clock", "wall_clock", "oscilloscope"),
}
_FILTERS = (
    Image.Resampling.BICUBIC,
    Image.Resampling.BICUBIC,
    Image.Resampling.BICUBIC,
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.LANCZOS,
)
_SHAPES = ((9, 16), (16, 9), (16, 9), (9, 16), (4, 3), (3, 4), (1, 1), (2, 1), (9, 20), (21, 9))


@dataclass(frozen=True)
class Split:
    """A share of the photographs and a family of seeds.

    Attributes:
        name: What it is for.
        seed: First word of every seed drawn in it.
        first: First tenth of the shuffled photographs.
        last: One past the last tenth.
    """

    name: str
    seed: int
    first: int
    last: int


SPLITS = {
    "train": Split("train", 1001, 0, 7),
    "threshold": Split("threshold", 2002, 7, 8),
    "heldout": Split("heldout", 3003, 8, 10),
}


class Photos:
    """The photographs of one split, decoded once.

    Args:
        directory: JPEG files. Near-grey ones are left out, because they would contradict the label
            black_and_white.
        split: Which share to load.
    """

    def __init__(self, directory: Path, split: Split) -> None:
        files = [f for f in sorted(directory.glob("*.jpg")) if f.stem not in _EXCLUDED]
        order = np.random.default_rng(99).permutation(len(files))
        first, last = split.first * len(files) // 10, split.last * len(files) // 10
        self.files = [files[i].name for i in order[first:last].tolist()]
        self.pixels: list[Pixels] = []
        for name in self.files:
            with Image.open(directory / name) as image:
                pixels = np.asarray(image.convert("RGB"))
            if float(np.ptp(pixels.astype(np.int16), axis=2).mean()) > 8:
                self.pixels.append(pixels)

    def draw(self, rng: np.random.Generator) -> Pixels:
        """One photograph, cropped and at times mirrored, uint8 [h, w, 3]."""
        pixels = self.pixels[int(rng.integers(0, len(self.pixels)))]
        height, width = pixels.shape[:2]
        tall, wide = (round(float(rng.uniform(0.6, 1.0)) * side) for side in (height, width))
        top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
        crop = pixels[top : top + tall, left : left + wide]
        return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def make_frame(rng: np.random.Generator, photos: Photos) -> tuple[Pixels, frozenset[str]]:
    """One frame as the model sees it, uint8 [224, 224, 3], and its true labels."""
    across, down = _SHAPES[int(rng.integers(0, len(_SHAPES)))]
    short = float(rng.uniform(150, 330)) if rng.random() < 0.85 else float(rng.uniform(330, 520))
    unit = short / min(across, down)
    size = max(96, round(down * unit)), max(96, round(across * unit))
    wanted = draw_labels(rng)
    photographic = rng.random() < 0.68
    background = photos.draw(rng) if photographic else None
    layout = wanted & {"split_screen", "photo_grid", "picture_in_picture"}
    extras = [photos.draw(rng) for _ in range(5)] if layout and photographic else []
    frame, true = compose(rng, wanted, size, background, float(rng.random()), extras)
    return _upload(rng, frame, true), true


def _upload(rng: np.random.Generator, frame: Pixels, true: frozenset[str]) -> Pixels:
    """What happens between an editor and a model: light, size, compression, the squash."""
    dice = rng.random(5)
    image = Image.fromarray(frame)
    blank = any(group_of(name) == "blank" for name in true)
    if dice[0] < 0.4 and not blank:
        exposed = true & {"overexposed", "underexposed"}
        gain, lift = rng.uniform(0.92 if exposed else 0.68, 1.12), rng.uniform(-8, 8)
        table = np.clip(np.arange(256) * gain + lift, 0, 255).astype(np.uint8)
        image = image.point(table.tolist() * 3)
    if dice[4] < 0.2 and not blank:
        image = ImageEnhance.Color(image).enhance(float(rng.uniform(0.4, 1.4)))
    if dice[1] < 0.25 and min(image.size) > 150:
        share = float(rng.uniform(max(0.45, 120 / min(image.size)), 0.95))
        small = (round(image.width * share), round(image.height * share))
        image = image.resize(small, _FILTERS[int(rng.integers(0, len(_FILTERS)))])
    if dice[2] < 0.55:
        image = _recompressed(image, int(rng.integers(28, 93)))
    image = image.resize((SIZE, SIZE), _FILTERS[int(rng.integers(0, len(_FILTERS)))])
    if dice[3] < 0.15:
        pixels = np.asarray(image, np.float32)
        grain = rng.standard_normal((SIZE, SIZE, 1), dtype=np.float32) * rng.uniform(1, 6)
        image = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    return np.asarray(image)


def _recompressed(image: Image.Image, quality: int) -> Image.Image:
    """JPEG with halved chroma stands in for the block transform of a video codec."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=2)
    return Image.open(buffer)


def truth_row(true: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Bool [labels], in the order of the vocabulary."""
    return np.asarray([name in true for name in names()])


class FrameFactory:
    """Processes that fill a shared ring of chunks with frames.

    Fork it before the first use of a GPU.

    Args:
        photos: The split's photographs.
        split: Where seeds come from.
        workers: Processes.
        chunk: Frames handed over at once.
        slots: Chunks in the ring.
        epoch: Changes every seed; a resumed run uses another.
    """

    def __init__(
        self, photos: Photos, split: Split, *, workers: int, chunk: int, slots: int, epoch: int
    ) -> None:
        context = mp.get_context("fork")
        self.chunk = chunk
        self._size = SIZE * SIZE * 3 * chunk
        self._memory = mmap.mmap(-1, slots * (self._size + len(names()) * chunk))
        self._slots = slots
        self._free: Any = context.Queue()
        self._ready: Any = context.Queue()
        for slot in range(slots):
            self._free.put(slot)
        self._processes: list[ForkProcess] = [
            context.Process(
                target=self._work, args=(photos, [split.seed, epoch, worker]), daemon=True
            )
            for worker in range(workers)
        ]
        for process in self._processes:
            process.start()

    def _views(self, slot: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        wide = len(names())
        frames = np.frombuffer(self._memory, np.uint8, self._size, slot * self._size)
        start = self._slots * self._size + slot * wide * self.chunk
        truth = np.frombuffer(self._memory, np.uint8, wide * self.chunk, start)
        return frames.reshape(self.chunk, SIZE, SIZE, 3), truth.reshape(self.chunk, wide)

    def _work(self, photos: Photos, seed: list[int]) -> None:
        rng = np.random.default_rng(seed)
        while True:
            slot = self._free.get()
            frames, truth = self._views(slot)
            for index in range(self.chunk):
                frames[index], true = make_frame(rng, photos)
                truth[index] = truth_row(true)
            self._ready.put(slot)

    def take(self, *, wait: bool) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
        """Yield finished chunks; each is valid until the next is asked for.

        Args:
            wait: Wait for at least one; otherwise yield only what is ready.
        """
        if wait:
            slot = self._ready.get()
            yield self._views(slot)
            self._free.put(slot)
        while not self._ready.empty():
            slot = self._ready.get()
            yield self._views(slot)
            self._free.put(slot)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()


def fixed_set(
    directory: Path, split: Split, count: int, workers: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """A reproducible set of a split: frames uint8 [n, 224, 224, 3] and truth bool [n, labels].

    Args:
        directory: Photographs.
        split: Which split.
        count: Frames, rounded down to whole blocks of 100.
        workers: Processes; they do not change the result.
    """
    photos = Photos(directory, split)
    with mp.get_context("fork").Pool(workers, _adopt, (photos, split.seed)) as pool:
        blocks = pool.map(_block, range(count // 100), chunksize=1)
    return np.concatenate([b[0] for b in blocks]), np.concatenate([b[1] for b in blocks])


_adopted: dict[str, Any] = {}


def _adopt(photos: Photos, seed: int) -> None:
    _adopted.update(photos=photos, seed=seed)


def _block(index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    rng = np.random.default_rng([_adopted["seed"], 7, index])
    made = [make_frame(rng, _adopted["photos"]) for _ in range(100)]
    return np.stack([m[0] for m in made]), np.stack([truth_row(m[1]) for m in made])
