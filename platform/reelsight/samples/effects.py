"""What happens to a whole picture: blur, mosaic, tone, exposure, damage.

Each effect changes the canvas in place and is strong enough to be seen in a 224-pixel frame.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from reelsight.samples.canvas import Canvas

__all__ = [
    "black_and_white",
    "blur",
    "film_scratches",
    "glitch",
    "mosaic",
    "negative",
    "overexposed",
    "scanlines",
    "sepia",
    "underexposed",
    "vignette",
]


def blur(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Out of focus: no detail finer than about a thirtieth of the picture is left."""
    factor = float(rng.uniform(5, 12)) * canvas.short / 224
    width, height = canvas.image.size
    small = (max(6, round(width / factor)), max(6, round(height / factor)))
    tiny = canvas.image.resize(small, Image.Resampling.BOX)
    canvas.image = tiny.resize((width, height), Image.Resampling.BICUBIC).filter(
        ImageFilter.GaussianBlur(factor * 0.45)
    )


def mosaic(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Pixelated into square blocks, over the whole picture."""
    cells = float(rng.uniform(11, 30))
    size = canvas.short / cells
    width, height = canvas.image.size
    small = (max(4, round(width / size)), max(4, round(height / size)))
    tiny = canvas.image.resize(small, Image.Resampling.BOX)
    canvas.image = tiny.resize((width, height), Image.Resampling.NEAREST)


def black_and_white(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """No colour at all."""
    grey = canvas.image.convert("L")
    mean = float(np.asarray(grey.resize((16, 16))).mean())
    if rng.random() < 0.4 and 60 < mean < 180:
        grey = ImageOps.autocontrast(grey, cutoff=2)
    canvas.image = grey.convert("RGB")


def sepia(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Brown and cream, as an old print."""
    warmth = float(rng.uniform(0.75, 1.15))
    grey = np.asarray(canvas.image.convert("L"), np.float32)[:, :, None] / 255
    lift = np.asarray([0.10, 0.055, 0.02], np.float32) * warmth
    tint = np.asarray([1.0, 1.0 - 0.17 * warmth, 1.0 - 0.40 * warmth], np.float32)
    _store(canvas, (lift + grey * (1 - lift)) * tint * 255)


def negative(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Colours inverted."""
    canvas.image = ImageOps.invert(canvas.image)


def overexposed(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Far too bright: highlights burnt out, but the picture can still be made out."""
    gain, lift = float(rng.uniform(1.7, 2.5)), float(rng.uniform(58, 98))
    pixels = np.asarray(canvas.image, np.float32)
    _store(canvas, (pixels - pixels.mean()) * 0.9 * gain * 0.55 + 160 + lift)


def underexposed(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Far too dark, with sensor noise; the picture can still just be made out."""
    level = float(rng.uniform(0.13, 0.27))
    grain = float(rng.uniform(0.5, 3.5))
    seed = int(rng.integers(0, 2**31))
    pixels = np.asarray(canvas.image, np.float32)
    pixels = pixels * (level * 110 / max(float(pixels.mean()), 40.0))
    fresh = np.random.default_rng([seed, round(t * 10_000)])
    noise = fresh.standard_normal(pixels.shape[:2], dtype=np.float32)[:, :, None] * grain
    _store(canvas, pixels + noise)


def vignette(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Corners fall off to black."""
    width, height = canvas.image.size
    inner, outer = float(rng.uniform(0.3, 0.5)), float(rng.uniform(0.95, 1.15))
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    radius = np.sqrt(across**2 + down**2)
    gain = np.clip((outer - radius) / (outer - inner), 0.0, 1.0)[:, :, None]
    _store(canvas, np.asarray(canvas.image, np.float32) * gain)


def film_scratches(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Old film: upright scratches, dust, hairs and flicker."""
    seed = int(rng.integers(0, 2**31))
    count = int(rng.integers(4, 10))
    fresh = np.random.default_rng([seed, round(t * 24)])
    gain = float(fresh.uniform(0.88, 1.08))
    canvas.image = ImageEnhance.Color(ImageEnhance.Brightness(canvas.image).enhance(gain)).enhance(
        float(rng.uniform(0.25, 0.8))
    )
    pen = canvas.blend_pen()
    unit = canvas.short / 224
    width, height = canvas.image.size
    for _ in range(count):
        x, lean = fresh.uniform(0, width), fresh.uniform(-4, 4) * unit
        light = 245 if fresh.random() < 0.75 else 15
        thick = max(1, round(unit * fresh.uniform(0.7, 2.0)))
        alpha = int(fresh.integers(140, 240))
        pen.line((x, 0, x + lean, height), (light, light, light - 10, alpha), thick)
    for _ in range(count * 5):
        x, y = fresh.uniform(0, width), fresh.uniform(0, height)
        size = unit * fresh.uniform(0.6, 3.0)
        light = 235 if fresh.random() < 0.6 else 20
        pen.ellipse(
            (x - size, y - size * 0.7, x + size, y + size * 0.7), (light, light, light, 215)
        )
    for _ in range(int(fresh.integers(1, 5))):
        x, y, size = fresh.uniform(0, width), fresh.uniform(0, height), unit * fresh.uniform(8, 22)
        start = fresh.uniform(0, 360)
        pen.arc(
            (x, y, x + size, y + size), start, start + 150, (20, 18, 15, 220), max(1, round(unit))
        )


def glitch(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Digital damage: bands torn sideways and colour channels pulled apart."""
    seed = int(rng.integers(0, 2**31))
    fresh = np.random.default_rng([seed, round(t * 12)])
    pixels = np.array(canvas.image)
    height, width = pixels.shape[:2]
    split = max(3, round(width * fresh.uniform(0.02, 0.05)))
    pixels[:, :, 0] = np.roll(pixels[:, :, 0], split, axis=1)
    pixels[:, :, 2] = np.roll(pixels[:, :, 2], -split, axis=1)
    for _ in range(int(fresh.integers(6, 15))):
        top, tall = int(fresh.integers(0, height)), int(fresh.integers(2, max(4, height // 10)))
        shift = int(fresh.normal(0, width * 0.12))
        pixels[top : top + tall] = np.roll(pixels[top : top + tall], shift, axis=1)
    for _ in range(int(fresh.integers(1, 6))):
        top, left = int(fresh.integers(0, height)), int(fresh.integers(0, width))
        tall, wide = max(2, height // 40), int(fresh.integers(width // 10, width // 3))
        pixels[top : top + tall, left : left + wide] = fresh.integers(0, 256, 3)
    canvas.image = Image.fromarray(pixels)


def scanlines(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """A tube television or a filmed monitor: dark horizontal lines and a rolling band."""
    height = canvas.height
    period = max(2.0, height / float(rng.uniform(36, 66)))
    depth = float(rng.uniform(0.4, 0.75))
    rows = np.arange(height, dtype=np.float32)
    lines = np.where((rows % period) < period / 2, 1.0 - depth, 1.0).astype(np.float32)
    roll = float(rng.random()) + 0.5 * t
    band = 1.0 + 0.25 * np.sin(6.283 * (rows / height * 1.5 + roll))
    gain = (lines * band)[:, None, None]
    tint = np.asarray([0.95, 1.06, 0.98], np.float32) * 1.2
    _store(canvas, np.asarray(canvas.image, np.float32) * gain * tint)


def _store(canvas: Canvas, pixels: npt.NDArray[np.floating]) -> None:
    canvas.image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
