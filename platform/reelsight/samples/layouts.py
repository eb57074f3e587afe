"""How pictures share a frame: splits, grids, insets, bars and borders.

Each painter changes the canvas in place. Extra pictures come from `canvas.extras`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from reelsight.samples.backgrounds import procedural
from reelsight.samples.canvas import Canvas, Pixels, bright, cover, dark, vivid

__all__ = [
    "blurred_side_bars",
    "frame_border",
    "letterbox",
    "photo_grid",
    "picture_in_picture",
    "pillarbox",
    "split_screen",
]


def _other(canvas: Canvas, rng: np.random.Generator, index: int, t: float) -> Pixels:
    """One more picture: an extra, or a procedural one where the extras run out."""
    seed = int(rng.integers(0, 2**31))
    if index < len(canvas.extras):
        return canvas.extras[index]
    small = max(48, canvas.width // 2), max(48, canvas.height // 2)
    return procedural(np.random.default_rng(seed), *small, t)


def split_screen(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Two or three different pictures side by side or stacked, at times with a thin seam."""
    parts = 3 if rng.random() < 0.25 else 2
    upright = rng.random() < (0.7 if canvas.width >= canvas.height else 0.3)
    seam = int(rng.integers(0, 3)) * max(1, canvas.short // 120)
    colour = bright(rng) if rng.random() < 0.6 else dark(rng)
    shots = [np.asarray(canvas.image), *(_other(canvas, rng, i, t) for i in range(parts - 1))]
    sheet = Image.new("RGB", canvas.image.size, colour)
    total = canvas.width if upright else canvas.height
    edges = np.linspace(0, total, parts + 1).round().astype(int).tolist()
    for index, shot in enumerate(shots):
        first, last = edges[index] + (seam if index else 0), edges[index + 1]
        if upright:
            sheet.paste(cover(shot, last - first, canvas.height), (first, 0))
        else:
            sheet.paste(cover(shot, canvas.width, last - first), (0, first))
    canvas.image = sheet


def photo_grid(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """A collage: four to twelve pictures in equal cells with gaps."""
    columns, rows = ((2, 2), (3, 2), (2, 3), (3, 3), (4, 3), (3, 4))[int(rng.integers(0, 6))]
    gap = max(2, round(canvas.short * rng.uniform(0.008, 0.03)))
    colour = bright(rng, 220) if rng.random() < 0.6 else dark(rng, 50)
    base = np.asarray(canvas.image)
    fresh = [_other(canvas, rng, i, t) for i in range(min(columns * rows - 1, 5))]
    shots = [base, *fresh]
    sheet = Image.new("RGB", canvas.image.size, colour)
    wide = (canvas.width - gap * (columns + 1)) / columns
    tall = (canvas.height - gap * (rows + 1)) / rows
    for cell in range(columns * rows):
        shot = shots[cell % len(shots)]
        if cell >= len(shots):
            shot = shot[:, ::-1]
        left = round(gap + (cell % columns) * (wide + gap))
        top = round(gap + (cell // columns) * (tall + gap))
        sheet.paste(cover(np.ascontiguousarray(shot), round(wide), round(tall)), (left, top))
    canvas.image = sheet


def picture_in_picture(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A small inset of another picture near a corner, with a border or a shadow."""
    scale = float(rng.uniform(0.26, 0.4))
    aspect = (canvas.width / canvas.height, 1.0, 0.75)[int(rng.integers(0, 3))]
    tall = canvas.short * scale * 1.15
    wide = tall * min(aspect, 1.6)
    box = canvas.free_box(rng, round(wide), round(tall), corner=True)
    shot = _other(canvas, rng, 0, t)
    edge = max(1, round(canvas.short * rng.uniform(0.006, 0.02)))
    colour = bright(rng, 220) if rng.random() < 0.7 else vivid(rng)
    if box is None:
        return False
    left, top, right, bottom = box
    canvas.pen().rectangle((left, top, right - 1, bottom - 1), colour)
    inner = cover(shot, right - left - 2 * edge, bottom - top - 2 * edge)
    canvas.image.paste(inner, (left + edge, top + edge))
    return True


def letterbox(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Black bars above and below."""
    bar = round(canvas.height * rng.uniform(0.09, 0.26))
    _between(canvas, rng, (0, bar, canvas.width, canvas.height - bar))


def pillarbox(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Black bars left and right."""
    bar = round(canvas.width * rng.uniform(0.09, 0.3))
    _between(canvas, rng, (bar, 0, canvas.width - bar, canvas.height))


def _between(canvas: Canvas, rng: np.random.Generator, box: tuple[int, int, int, int]) -> None:
    level = int(rng.integers(0, 17))
    sheet = Image.new("RGB", canvas.image.size, (level, level, level))
    left, top, right, bottom = box
    sheet.paste(cover(np.asarray(canvas.image), right - left, bottom - top), (left, top))
    canvas.image = sheet


def blurred_side_bars(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """The picture in the middle; its own blurred enlargement fills the sides or top and bottom."""
    sideways = rng.random() < (0.75 if canvas.width >= canvas.height else 0.25)
    share = float(rng.uniform(0.36, 0.62))
    source = np.asarray(canvas.image)
    tiny = canvas.image.resize((max(4, canvas.width // 8), max(4, canvas.height // 8)))
    tiny = tiny.filter(ImageFilter.GaussianBlur(float(rng.uniform(1.5, 3.5))))
    wash = tiny.resize(canvas.image.size, Image.Resampling.BICUBIC)
    wash = ImageEnhance.Brightness(wash).enhance(float(rng.uniform(0.6, 1.05)))
    if sideways:
        wide = round(canvas.width * share)
        wash.paste(cover(source, wide, canvas.height), ((canvas.width - wide) // 2, 0))
    else:
        tall = round(canvas.height * share)
        wash.paste(cover(source, canvas.width, tall), (0, (canvas.height - tall) // 2))
    canvas.image = wash


def frame_border(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """A decorative coloured border on all four sides."""
    edge = round(canvas.short * rng.uniform(0.04, 0.1))
    outer = vivid(rng) if rng.random() < 0.75 else bright(rng, 225)
    sheet = Image.new("RGB", canvas.image.size, outer)
    wide, tall = canvas.width - 2 * edge, canvas.height - 2 * edge
    sheet.paste(canvas.image.resize((wide, tall)), (edge, edge))
    canvas.image = sheet
    if rng.random() < 0.5:
        inset = edge // 2
        box = (inset, inset, canvas.width - inset, canvas.height - inset)
        canvas.pen().rectangle(box, outline=bright(rng), width=max(1, edge // 6))
