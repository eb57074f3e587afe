"""Drawn luma pictures of the kinds that photographs lack: flats, ramps, text, cartoons, the dark.

Marks are hardest to carry where a picture is flat, dark or framed by bars; a quarter of what is
trained on is therefore drawn. Everything follows from a generator.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from reelsight.samples.backgrounds import procedural

__all__ = ["Luma", "draw_pictures"]

Luma = npt.NDArray[np.uint8]
"""Luma of one picture, uint8 [side, side]."""
_Field = npt.NDArray[np.float32]
_WORDS = (
    *("THE", "NIGHT", "TRAIN", "LEFT", "AT", "NINE", "AND", "NOBODY", "SAW", "IT", "ARRIVE"),
    *("Episode", "12", "Live", "24:07", "www"),
)


def draw_pictures(count: int, side: int, seed: int) -> Luma:
    """Draw pictures.

    Args:
        count: How many.
        side: Of each, pixels.
        seed: Same seed, same pictures.

    Returns:
        Uint8 [count, side, side].
    """
    out = np.empty((count, side, side), np.uint8)
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        painter = _PAINTERS[int(rng.integers(0, len(_PAINTERS)))]
        levels = painter(rng, side)
        if rng.random() < 0.3:
            levels = _dark(rng, levels)
        if rng.random() < 0.2:
            levels = _bars(rng, levels)
        levels = levels + rng.standard_normal(levels.shape, np.float32) * rng.uniform(0, 2.5)
        out[index] = np.clip(levels + 0.5, 0, 255)
    return out


def _dark(rng: np.random.Generator, levels: _Field) -> _Field:
    """A night scene: most of the range gone, a light or two left."""
    ys, xs = np.mgrid[0 : 1 : 1j * levels.shape[0], 0 : 1 : 1j * levels.shape[1]].astype(np.float32)
    lit = np.zeros_like(levels)
    for _ in range(int(rng.integers(0, 3))):
        y, x, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.05, 0.3)
        lit += np.exp(-((ys - y) ** 2 + (xs - x) ** 2) / radius**2) * rng.uniform(0.2, 0.8)
    dimmed: _Field = levels * np.clip(rng.uniform(0.06, 0.35) + lit, 0, 1).astype(np.float32)
    return dimmed + np.float32(rng.uniform(0, 14))


def _bars(rng: np.random.Generator, levels: _Field) -> _Field:
    """Letterbox or pillarbox, black or nearly."""
    framed = levels.copy()
    width = int(rng.uniform(0.04, 0.16) * len(levels))
    rows = framed if rng.random() < 0.7 else framed.T
    rows[:width] = rows[len(rows) - width :] = np.float32(rng.integers(0, 20))
    return framed


def _ramp(rng: np.random.Generator, side: int) -> _Field:
    ys, xs = np.mgrid[0 : 1 : 1j * side, 0 : 1 : 1j * side].astype(np.float32)
    turn, low, high = rng.uniform(0, 6.28), rng.uniform(0, 180), rng.uniform(60, 255)
    along = np.cos(turn) * xs + np.sin(turn) * ys
    along = (along - along.min()) / (np.ptp(along) + 1e-6)
    return np.asarray(low + (high - low) * along ** rng.uniform(0.5, 2), np.float32)


def _flat(rng: np.random.Generator, side: int) -> _Field:
    return np.full((side, side), rng.uniform(8, 245), np.float32)


def _pink(rng: np.random.Generator, side: int) -> _Field:
    """Noise whose amplitude falls with frequency, as that of natural pictures does."""
    vertical, horizontal = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    radius = np.sqrt(vertical**2 + horizontal**2)
    radius[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) / radius ** rng.uniform(0.8, 1.8)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (side, side))
    field *= rng.uniform(10, 60) / (field.std() + 1e-6)
    return np.asarray(field + rng.uniform(50, 200), np.float32)


def _cartoon(rng: np.random.Generator, side: int) -> _Field:
    image = Image.new("L", (side, side), int(rng.integers(20, 240)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 14))):
        x, y = (float(v) for v in rng.uniform(-0.2, 1.0, 2) * side)
        w, h = (float(v) for v in rng.uniform(0.05, 0.6, 2) * side)
        fill, edge = int(rng.integers(0, 256)), int(rng.integers(0, 80))
        draw = pen.ellipse if rng.random() < 0.6 else pen.rectangle
        draw((x, y, x + w, y + h), fill, edge, int(rng.integers(0, 4)))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(0.6)), np.float32)


def _text(rng: np.random.Generator, side: int) -> _Field:
    paper, ink = (245, 20) if rng.random() < 0.6 else (15, 230)
    image = Image.new("L", (side, side), paper)
    pen = ImageDraw.Draw(image)
    y = float(rng.uniform(0, 0.1)) * side
    while y < side:
        size = max(6.0, float(rng.uniform(0.03, 0.12)) * side)
        words = " ".join(_WORDS[i] for i in rng.integers(0, len(_WORDS), 8).tolist())
        pen.text((float(rng.uniform(0, 0.1)) * side, y), words, ink, ImageFont.load_default(size))
        y += size * float(rng.uniform(1.1, 2.5))
    return np.asarray(image, np.float32)


def _scene(rng: np.random.Generator, side: int) -> _Field:
    pixels = Image.fromarray(procedural(rng, side, side, float(rng.random())))
    return np.asarray(pixels.convert("L"), np.float32)


_PAINTERS: tuple[Callable[[np.random.Generator, int], _Field], ...] = (
    _ramp,
    _flat,
    _pink,
    _pink,
    _cartoon,
    _cartoon,
    _text,
    _scene,
    _scene,
)
