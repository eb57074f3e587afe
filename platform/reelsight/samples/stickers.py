"""Shapes that editors lay over a picture: stickers, emoji, marks, bars over what must not show."""

from __future__ import annotations

import numpy as np
from PIL import ImageDraw

from reelsight.samples.canvas import Canvas, Colour, vivid
from reelsight.samples.lettering import Line, digits

__all__ = ["arrow", "censor_bar", "emoji", "price_tag", "red_circle", "sticker", "subscribe_button"]


def _star(x: float, y: float, outer: float, inner: float, points: int) -> list[tuple[float, float]]:
    angles = np.arange(points * 2) * np.pi / points - np.pi / 2
    radii = np.where(np.arange(points * 2) % 2 == 0, outer, inner)
    return [
        (x + float(r * np.cos(a)), y + float(r * np.sin(a)))
        for r, a in zip(radii, angles, strict=True)
    ]


def _heart(x: float, y: float, size: float) -> list[tuple[float, float]]:
    turn = np.linspace(0, 2 * np.pi, 40)
    across = 16 * np.sin(turn) ** 3
    down = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return [
        (x + float(a) * size / 17, y - float(d) * size / 17)
        for a, d in zip(across, down, strict=True)
    ]


def _cutout(
    pen: ImageDraw.ImageDraw, kind: int, x: float, y: float, size: float, colour: Colour
) -> None:
    if kind == 0:
        pen.polygon(_star(x, y, size, size * 0.45, 5), colour)
    elif kind == 1:
        pen.polygon(_heart(x, y, size * 0.9), colour)
    elif kind == 2:
        pen.polygon(_star(x, y, size, size * 0.74, 12), colour)
    elif kind == 3:
        for turn in range(6):
            px, py = x + np.cos(turn * 1.047) * size * 0.55, y + np.sin(turn * 1.047) * size * 0.55
            pen.ellipse(
                (px - size * 0.4, py - size * 0.4, px + size * 0.4, py + size * 0.4), colour
            )
    else:
        bolt = [
            (-0.1, -1),
            (0.5, -1),
            (0.15, -0.25),
            (0.6, -0.25),
            (-0.35, 1),
            (-0.05, 0.1),
            (-0.5, 0.1),
        ]
        pen.polygon([(x + dx * size, y + dy * size) for dx, dy in bolt], colour)


def sticker(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A die-cut sticker: a star, heart, burst, flower or bolt with a thick white edge."""
    size = round(canvas.short * rng.uniform(0.23, 0.38))
    kind, colour, second = int(rng.integers(0, 5)), vivid(rng), vivid(rng)
    box = canvas.free_box(rng, size, size)
    if box is None:
        return False
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = size / 2 * (0.94 + 0.06 * float(np.sin(12 * t)))
    pen = canvas.pen()
    _cutout(pen, kind, x, y, half, (255, 255, 255))
    _cutout(pen, kind, x, y, half * 0.8, colour)
    _cutout(pen, kind, x, y, half * 0.42, second)
    return True


def emoji(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A round yellow face."""
    size = round(canvas.short * rng.uniform(0.18, 0.36))
    mouth, eyes = int(rng.integers(0, 4)), int(rng.integers(0, 3))
    box = canvas.free_box(rng, size, size)
    if box is None:
        return False
    left, top = box[0], box[1] + 0.02 * canvas.short * float(np.sin(6.3 * t))
    pen = canvas.pen()
    ink = (90, 52, 14)

    def spot(x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return left + x0 * size, top + y0 * size, left + x1 * size, top + y1 * size

    pen.ellipse(spot(0, 0, 1, 1), (255, 205, 50), (226, 160, 24), max(1, size // 30))
    thick = max(2, size // 16)
    for side in (0.32, 0.68):
        if eyes == 0:
            pen.ellipse(spot(side - 0.07, 0.28, side + 0.07, 0.48), ink)
        elif eyes == 1:
            pen.arc(spot(side - 0.11, 0.3, side + 0.11, 0.52), 190, 350, ink, thick)
        else:
            x, y = left + side * size, top + 0.4 * size
            pen.polygon(_heart(x, y, size * 0.15), (228, 40, 60))
    if mouth == 0:
        pen.arc(spot(0.24, 0.36, 0.76, 0.82), 15, 165, ink, thick)
    elif mouth == 1:
        pen.chord(spot(0.22, 0.34, 0.78, 0.88), 0, 180, ink)
    elif mouth == 2:
        pen.ellipse(spot(0.4, 0.6, 0.6, 0.84), ink)
    else:
        pen.arc(spot(0.28, 0.62, 0.72, 0.95), 200, 340, ink, thick)
    return True


def censor_bar(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A solid black bar, straight or slightly tilted, that hides part of the picture."""
    wide = round(canvas.width * rng.uniform(0.3, 0.55))
    tall = max(6, round(canvas.short * rng.uniform(0.09, 0.17)))
    word = rng.random() < 0.3
    x0, y0 = 0.12 * canvas.width, 0.12 * canvas.height
    left = round(rng.uniform(x0, max(x0 + 1, canvas.width - x0 - wide)))
    top = round(rng.uniform(y0, max(y0 + 1, canvas.height - y0 - tall)))
    box = (left, top, left + wide, top + tall)
    below = float(np.asarray(canvas.image.crop(box).resize((8, 4))).mean())
    if below < 40 or not canvas.claim(box):
        return False
    pen = canvas.pen()
    pen.rectangle(box, (0, 0, 0))
    if word:
        line = Line("CENSORED", round(tall * 0.6))
        if line.width < wide:
            line.draw(pen, left + (wide - line.width) / 2, top + tall * 0.15, (255, 255, 255))
    return True


def red_circle(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A hand-drawn red ring around something."""
    wide = round(canvas.short * rng.uniform(0.24, 0.48))
    tall = round(wide * rng.uniform(0.75, 1.2))
    box = canvas.free_box(rng, wide, tall)
    thick = max(3, round(canvas.short * rng.uniform(0.014, 0.03)))
    start = float(rng.uniform(0, 360))
    if box is None:
        return False
    colour = (int(rng.integers(215, 256)), int(rng.integers(0, 40)), int(rng.integers(0, 40)))
    left, top, right, bottom = box
    pen = canvas.pen()
    pen.arc(
        (left, top, right - 1, bottom - 1),
        start,
        start + 250 + 110 * min(1.0, 2 * t + 0.4),
        colour,
        thick,
    )
    pen.arc((left + thick / 2, top, right, bottom), start + 40, start + 190, colour, thick)
    return True


def arrow(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A thick bright arrow that points at something."""
    size = round(canvas.short * rng.uniform(0.26, 0.42))
    turn = float(rng.uniform(0, 6.283))
    colour = vivid(rng) if rng.random() < 0.5 else (235, 30, 30)
    box = canvas.free_box(rng, size, size)
    if box is None:
        return False
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = size / 2
    push = 0.06 * half * float(np.sin(12.6 * t))
    outline = [
        (-1, -0.2),
        (0.15, -0.2),
        (0.15, -0.55),
        (1, 0),
        (0.15, 0.55),
        (0.15, 0.2),
        (-1, 0.2),
    ]
    cos, sin = float(np.cos(turn)), float(np.sin(turn))
    points = [
        (
            x + (a * half * 0.95 + push) * cos - b * half * sin,
            y + (a * half * 0.95 + push) * sin + b * half * cos,
        )
        for a, b in outline
    ]
    canvas.pen().polygon(points, colour, (255, 255, 255), max(2, size // 26))
    return True


def price_tag(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A sale label: a notched tag with a hole and a price or a percentage."""
    wide = round(canvas.short * rng.uniform(0.32, 0.48))
    tall = round(wide * 0.46)
    colour = ((226, 36, 36), (250, 190, 20), (240, 90, 20))[int(rng.integers(0, 3))]
    off = rng.random() < 0.5
    text = f"-{digits(rng, 2)}%" if off else f"${digits(rng, 2)}.99"
    box = canvas.free_box(rng, wide, tall)
    if box is None:
        return False
    left, top, right, bottom = box
    notch = tall * 0.5
    pen = canvas.pen()
    middle = (top + bottom) / 2
    shape = [
        (left, middle),
        (left + notch, top),
        (right, top),
        (right, bottom),
        (left + notch, bottom),
    ]
    pen.polygon(shape, colour, (255, 255, 255), max(1, tall // 18))
    hole = tall * 0.1
    pen.ellipse(
        (left + notch * 0.75 - hole, middle - hole, left + notch * 0.75 + hole, middle + hole),
        (255, 255, 255),
    )
    line = Line(text, round(tall * 0.48))
    room = right - left - notch * 1.2
    if line.width > room:
        line = Line(text, int(tall * 0.48 * room / line.width))
    line.draw(
        pen,
        left + notch * 1.15,
        middle - line.height * 0.52,
        (255, 255, 255) if colour[1] < 150 else (20, 20, 20),
    )
    return True


def subscribe_button(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A red rounded button that asks to subscribe or follow, at times with a bell."""
    word = ("SUBSCRIBE", "FOLLOW", "Subscribe", "JOIN NOW")[int(rng.integers(0, 4))]
    tall = round(canvas.short * rng.uniform(0.11, 0.17))
    line = Line(word, round(tall * 0.5))
    bell = rng.random() < 0.5
    wide = line.width + tall + (tall if bell else 0)
    if wide > canvas.width * 0.9:
        return False
    box = canvas.free_box(rng, wide, tall)
    red = (int(rng.integers(205, 245)), int(rng.integers(0, 40)), int(rng.integers(0, 45)))
    if box is None:
        return False
    left, top, right, bottom = box
    pen = canvas.pen()
    end = right - (tall if bell else 0)
    pen.rounded_rectangle((left, top, end, bottom), tall * 0.25, red)
    line.draw(pen, left + tall / 2, top + tall * 0.22, (255, 255, 255))
    if bell:
        x, y, size = end + tall * 0.55, top + tall * 0.5, tall * 0.32
        pen.pieslice((x - size, y - size, x + size, y + size * 1.2), 180, 360, (250, 240, 240))
        pen.rectangle((x - size, y, x + size, y + size * 0.7), (250, 240, 240))
        pen.ellipse(
            (x - size * 0.3, y + size * 0.7, x + size * 0.3, y + size * 1.2), (250, 240, 240)
        )
    return True
