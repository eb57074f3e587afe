"""Procedural pictures that stand in for photographs.

Sample clips and tests never ship a photograph; these landscapes, rooms, streets and abstract fields
are what they show instead, and training shows them beside real photographs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reelsight.samples.canvas import Pixels, bright, dark, smooth_noise, vivid

__all__ = ["procedural"]

Painter = Callable[[np.random.Generator, int, int, float], Image.Image]


def procedural(rng: np.random.Generator, width: int, height: int, t: float = 0.0) -> Pixels:
    """Paint one random picture.

    Args:
        rng: Source of every choice; the same state gives the same picture.
        width: Width in pixels.
        height: Height in pixels.
        t: Time in 0 to 1; objects drift a little with it.

    Returns:
        uint8 [height, width, 3].
    """
    painter = _PAINTERS[int(rng.integers(0, len(_PAINTERS)))]
    image = painter(rng, width, height, t)
    grain = float(rng.uniform(0, 5))
    pixels = np.asarray(image, np.float32)
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * grain
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _ramp(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Sky: a vertical ramp between two soft colours."""
    top, bottom = rng.integers(60, 240, 3), rng.integers(110, 250, 3)
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    ramp = (top * (1 - rows) + bottom * rows).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(ramp, (height, width, 3))))


def _landscape(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    image = _ramp(rng, width, height)
    pen = ImageDraw.Draw(image)
    radius = int(rng.integers(height // 16 + 1, height // 6 + 2))
    sun_x, sun_y = rng.uniform(0, width) + 0.05 * width * t, rng.uniform(0, height * 0.4)
    pen.ellipse((sun_x - radius, sun_y - radius, sun_x + radius, sun_y + radius), bright(rng, 215))
    layers = int(rng.integers(2, 5))
    shade = rng.integers(90, 180, 3)
    xs = np.linspace(0, width, 24)
    for layer in range(layers):
        level = height * (0.45 + 0.5 * layer / layers)
        phase, waves = rng.uniform(0, 6.3), rng.uniform(1, 5)
        rough = rng.uniform(-1, 1, 24) * height * 0.03
        ys = level + np.sin(xs / width * 6.3 * waves + phase + t * 0.3) * height * 0.07 + rough
        tint = tuple(int(c) for c in np.clip(shade * (1 - 0.7 * layer / layers), 0, 255))
        points = [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
        pen.polygon([*points, (width, height), (0, height)], fill=tint)
        if layer == layers - 1:
            for x in rng.uniform(0, width, int(rng.integers(0, 9))):
                size = float(rng.uniform(0.05, 0.14)) * height
                foot = level + size * 0.8
                pen.polygon(
                    [(x - size / 3, foot), (x, foot - size), (x + size / 3, foot)], fill=dark(rng)
                )
    return image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 0.8))))


def _textured(rng: np.random.Generator, image: Image.Image, amount: float) -> Image.Image:
    """Lay soft uneven light over a drawn picture, so that it looks filmed."""
    light = smooth_noise(rng, image.width, image.height, 3, 4)
    gain = (1.0 - amount + 2 * amount * light)[:, :, None]
    pixels = np.asarray(image, np.float32) * gain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _room(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    wall, floor = rng.integers(90, 220, 3), rng.integers(50, 150, 3)
    image = Image.new("RGB", (width, height), tuple(int(c) for c in wall))
    pen = ImageDraw.Draw(image)
    horizon = int(height * rng.uniform(0.55, 0.75))
    pen.rectangle((0, horizon, width, height), tuple(int(c) for c in floor))
    for _ in range(int(rng.integers(2, 6))):
        w, h = rng.uniform(0.12, 0.4) * width, rng.uniform(0.15, 0.45) * height
        x, foot = rng.uniform(-0.1, 0.9) * width, horizon + rng.uniform(0, 0.3) * height
        body = rng.integers(40, 200, 3)
        pen.rectangle((x, foot - h, x + w, foot), tuple(int(c) for c in body))
        pen.rectangle((x, foot - h, x + w, foot - h * 0.8), tuple(int(c * 0.8) for c in body))
    head = (rng.uniform(0.3, 0.7) + 0.04 * np.sin(t * 6.3)) * width
    if rng.random() < 0.6:
        size, skin, shirt = rng.uniform(0.08, 0.16) * height, rng.integers(120, 220), vivid(rng)
        top = horizon - 2.2 * size
        pen.ellipse((head - size * 1.6, top + size, head + size * 1.6, height + size), shirt)
        face = (int(skin), int(skin * 0.78), int(skin * 0.62))
        pen.ellipse((head - size * 0.8, top - size, head + size * 0.8, top + size * 1.2), face)
    image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.2))))
    return _textured(rng, image, 0.25)


def _street(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    image = _ramp(rng, width, height)
    pen = ImageDraw.Draw(image)
    ground = int(height * rng.uniform(0.65, 0.82))
    x = -float(rng.uniform(0, 0.2)) * width
    while x < width:
        wide, tall = rng.uniform(0.1, 0.28) * width, rng.uniform(0.25, 0.7) * height
        front = rng.integers(60, 190, 3)
        pen.rectangle((x, ground - tall, x + wide, ground), tuple(int(c) for c in front))
        columns, rows = int(rng.integers(2, 5)), int(rng.integers(3, 7))
        pane = tuple(int(c) for c in np.clip(front + rng.integers(-50, 60), 0, 255))
        for i in range(columns):
            for j in range(rows):
                left, top = x + wide * (i + 0.25) / columns, ground - tall * (1 - (j + 0.25) / rows)
                pen.rectangle(
                    (left, top, left + wide * 0.4 / columns, top + tall * 0.4 / rows), pane
                )
        x += wide * float(rng.uniform(1.0, 1.3))
    grey = int(rng.integers(60, 120))
    pen.rectangle((0, ground, width, height), (grey, grey, grey + 6))
    for _ in range(int(rng.integers(1, 4))):
        left, size = (rng.uniform(-0.1, 1) + 0.25 * t) * width, rng.uniform(0.06, 0.12) * height
        pen.rectangle((left, ground - size, left + 2.4 * size, ground + size * 0.3), vivid(rng))
        for wheel in (0.5, 1.9):
            centre = left + wheel * size
            low = ground + size * 0.3
            pen.ellipse(
                (centre - size * 0.3, low - size * 0.3, centre + size * 0.3, low + size * 0.3),
                dark(rng),
            )
    return _textured(rng, image.filter(ImageFilter.GaussianBlur(0.7)), 0.2)


def _blobs(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    image = Image.new("RGB", (width, height), tuple(int(c) for c in rng.integers(40, 200, 3)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(5, 16))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.06, 0.3)
        radius = size * min(width, height)
        x += 0.06 * width * np.sin(6.3 * t + size * 40)
        fill = tuple(int(c) for c in rng.integers(20, 235, 3))
        pen.ellipse((x - radius, y - radius * 0.8, x + radius, y + radius * 0.8), fill)
    soft = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.8, 2.0))))
    return _textured(rng, soft, 0.35)


def _fractal(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """Earth, leaves, cloth: fractal noise through a palette of three colours."""
    cells = int(rng.integers(2, 9))
    field = smooth_noise(rng, width, height, cells, 6)
    palette = np.sort(rng.integers(15, 245, (3, 3)), axis=0).astype(np.float32)
    palette = palette[:, rng.permutation(3)]
    shift = round(0.03 * width * t)
    field = np.roll(field, shift, axis=1)[:, :, None]
    low = palette[0] + (palette[1] - palette[0]) * np.minimum(field * 2, 1)
    return Image.fromarray(
        (low + (palette[2] - palette[1]) * np.clip(field * 2 - 1, 0, 1)).clip(0, 255).astype("u1")
    )


_PAINTERS: tuple[Painter, ...] = (_landscape, _landscape, _room, _street, _blobs, _fractal)
