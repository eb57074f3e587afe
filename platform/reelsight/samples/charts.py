"""Charts as presentations show them: bars, pie, lines."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from reelsight.samples.canvas import Colour, bright, dark, vivid
from reelsight.samples.lettering import Line, digits, phrase

__all__ = ["bar_chart", "line_chart", "pie_chart"]


def _sheet(
    rng: np.random.Generator, width: int, height: int
) -> tuple[Image.Image, ImageDraw.ImageDraw, Colour, int]:
    """A ground with a title; gives the image, its pen, the ink and the plot's top in pixels."""
    light = rng.random() < 0.7
    ground, ink = (bright(rng, 225), dark(rng)) if light else (dark(rng, 60), bright(rng, 215))
    image = Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(image)
    size = max(8, round(min(width, height) * rng.uniform(0.05, 0.08)))
    top = round(height * 0.06)
    if rng.random() < 0.75:
        Line(phrase(rng, 3), size).draw(pen, width * 0.08, top, ink)
        top += round(size * 1.6)
    return image, pen, ink, top


def bar_chart(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """Upright or lying bars over an axis; they grow with t."""
    image, pen, ink, top = _sheet(rng, width, height)
    count = int(rng.integers(4, 9))
    values = rng.uniform(0.15, 1.0, count) * (0.75 + 0.25 * t)
    one, many = vivid(rng), [vivid(rng) for _ in range(count)]
    single, lying = rng.random() < 0.5, rng.random() < 0.25
    left, right, low = width * 0.1, width * 0.94, height * 0.88
    size = max(6, round(min(width, height) * 0.035))
    for index, value in enumerate(values):
        colour = one if single else many[index]
        if lying:
            step = (low - top) / count
            y = top + index * step
            end = left + (right - left) * float(value)
            pen.rectangle((left, y + step * 0.15, end, y + step * 0.85), colour)
        else:
            step = (right - left) / count
            x = left + index * step
            head = low - (low - top) * float(value)
            pen.rectangle((x + step * 0.15, head, x + step * 0.85, low), colour)
            Line(digits(rng, 2), size).draw(pen, x + step * 0.3, low + 3, ink)
    thick = max(1, round(min(width, height) / 150))
    pen.line([(left, top), (left, low), (right, low)], ink, thick)
    return image


def pie_chart(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """A pie or ring of coloured sectors, often with a legend."""
    image, pen, ink, top = _sheet(rng, width, height)
    parts = rng.dirichlet(np.full(int(rng.integers(3, 7)), 3.0)) * 360
    radius = min(width * 0.42, (height - top) * 0.44)
    legend = width > height and rng.random() < 0.7
    x = width * (0.34 if legend else 0.5)
    y = top + (height - top) * 0.5
    angle = float(rng.uniform(0, 360)) + 20 * t
    edge = bright(rng, 240)
    size = max(7, round(min(width, height) * 0.05))
    for index, part in enumerate(parts):
        colour = vivid(rng)
        sector = (x - radius, y - radius, x + radius, y + radius)
        pen.pieslice(sector, angle, angle + float(part), colour, edge)
        angle += float(part)
        text = phrase(rng, 1)
        if legend:
            row = top + (index + 1) * size * 1.8
            pen.rectangle((width * 0.7, row, width * 0.7 + size, row + size), colour)
            Line(text, size).draw(pen, width * 0.7 + size * 1.5, row, ink)
    if rng.random() < 0.35:
        hole = radius * float(rng.uniform(0.4, 0.6))
        ground = image.getpixel((2, 2))
        pen.ellipse((x - hole, y - hole, x + hole, y + hole), ground)
    return image


def line_chart(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """One to three jagged lines over axes and a faint grid."""
    image, pen, ink, top = _sheet(rng, width, height)
    left, right, low = width * 0.1, width * 0.95, height * 0.88
    faint = tuple((int(a) + 3 * int(b)) // 4 for a, b in zip(ink, _ground(image), strict=True))
    for row in np.linspace(top, low, 6):
        pen.line([(left, row), (right, row)], faint)
    points = int(rng.integers(8, 30))
    xs = np.linspace(left, right, points)
    thick = max(2, round(min(width, height) / 90))
    dots = rng.random() < 0.4
    for _ in range(int(rng.integers(1, 4))):
        walk = np.cumsum(rng.normal(0, 1, points))
        walk = (walk - walk.min()) / (np.ptp(walk) + 1e-6)
        ys = low - (low - top) * (0.08 + 0.84 * walk)
        colour = vivid(rng)
        shown = max(3, round(points * (0.7 + 0.3 * t)))
        track = [(float(x), float(y)) for x, y in zip(xs[:shown], ys[:shown], strict=True)]
        pen.line(track, colour, thick, joint="curve")
        if dots:
            for x, y in track:
                pen.ellipse((x - thick, y - thick, x + thick, y + thick), colour)
    pen.line([(left, top), (left, low), (right, low)], ink, max(1, thick // 2))
    return image


def _ground(image: Image.Image) -> Colour:
    red, green, blue = np.asarray(image)[2, 2]
    return int(red), int(green), int(blue)
