"""Full-frame content that is not a photograph: blank fields, test patterns, text and data screens.

Each painter takes an rng, a size in pixels and the time t in 0 to 1, and returns an RGB image. The
number of random draws never depends on t, so that a clip moves without jumping.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reelsight.samples.canvas import Colour, bright, dark, smooth_noise, vivid
from reelsight.samples.lettering import Line, digits, phrase

__all__ = [
    "black_screen",
    "checkerboard",
    "code_screen",
    "color_bars",
    "map_view",
    "solid_color",
    "static_noise",
    "table",
    "title_card",
    "white_screen",
]


def black_screen(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """All but black, with at most a trace of sensor noise."""
    return _flat(rng, width, height, int(rng.integers(0, 11)), 2.0)


def white_screen(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """All but white."""
    return _flat(rng, width, height, int(rng.integers(243, 256)), 2.0)


def _flat(
    rng: np.random.Generator, width: int, height: int, level: int, most: float
) -> Image.Image:
    grain = float(rng.uniform(0, most)) * float(rng.integers(0, 2))
    noise = rng.standard_normal((height, width), dtype=np.float32) * grain
    return Image.fromarray(np.clip(level + noise, 0, 255).astype(np.uint8)).convert("RGB")


def solid_color(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """One flat colour, neither black nor white, as a frozen or lost signal shows it."""
    colour = vivid(rng)
    if rng.random() < 0.4:
        level = rng.integers(60, 190, 3)
        colour = (int(level[0]), int(level[1]), int(level[2]))
    pixels = np.full((height, width, 3), colour, np.float32)
    if rng.random() < 0.4:
        pixels += rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(0, 2.5)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def color_bars(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """A broadcast test card: vertical bars in the SMPTE order, with or without the lower rows."""
    level = int(rng.integers(170, 256))
    order = [(1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1)]
    if rng.random() < 0.3:
        order.append((0, 0, 0))
    if rng.random() < 0.3:
        order = [order[i] for i in rng.permutation(len(order)).tolist()]
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    edges = np.linspace(0, width, len(order) + 1)
    main = int(height * (1.0 if rng.random() < 0.35 else rng.uniform(0.6, 0.75)))
    mid = main + max(1, (height - main) // 4)
    for index, parts in enumerate(order):
        left, right = int(edges[index]), int(edges[index + 1])
        red, green, blue = (level * part for part in parts)
        pen.rectangle((left, 0, right, main), (red, green, blue))
        back = order[-1 - index] if index % 2 == 0 else (0, 0, 0)
        red, green, blue = (level * part for part in back)
        pen.rectangle((left, main, right, mid), (red, green, blue))
    if main < height:
        patches = ((0, 33, 76), (255, 255, 255), (50, 0, 106), (19, 19, 19), (0, 0, 0))
        for index, patch in enumerate(patches):
            pen.rectangle((index * width // 5, mid, width, height), patch)
    if rng.random() < 0.35:
        _test_marks(pen, rng, width, height, t)
    return image


def _test_marks(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, width: int, height: int, t: float
) -> None:
    """What signal generators draw over bars: a slanting line, a running number, a grey patch."""
    unit = min(width, height)
    if rng.random() < 0.6:
        ends = [(0, height * rng.uniform(0, 0.4)), (width, height * rng.uniform(0.4, 1.0))]
        pen.line(ends, vivid(rng), max(2, unit // 40))
    if rng.random() < 0.6:
        number = Line(f"00:00:0{int(8 * t)}.{digits(rng, 2)}", max(7, unit // 14))
        pen.rectangle((0, 0, number.width + 6, number.height + 4), (20, 20, 20))
        number.draw(pen, 3, 1, (255, 190, 40))
    if rng.random() < 0.4:
        x, y, side = rng.uniform(0.5, 0.8) * width, rng.uniform(0.5, 0.8) * height, unit * 0.14
        pen.rectangle((x, y, x + side, y + side), (128, 128, 128))


def static_noise(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """Snow of an untuned television; every frame differs."""
    seed = int(rng.integers(0, 2**31))
    grain, colour = int(rng.integers(1, 4)), rng.random() < 0.25
    spread = float(rng.uniform(0.7, 1.0))
    fresh = np.random.default_rng([seed, round(t * 10_000)])
    rows, columns = -(-height // grain), -(-width // grain)
    channels = 3 if colour else 1
    field = fresh.integers(0, 256, (rows, columns, channels), dtype=np.uint8)
    field = (128 + (field.astype(np.float32) - 128) * spread).astype(np.uint8)
    if channels == 1:
        field = np.repeat(field, 3, axis=2)
    return Image.fromarray(field).resize((width, height), Image.Resampling.NEAREST)


def checkerboard(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """A chessboard test pattern of two colours."""
    count = float(rng.uniform(5, 14))
    cell = max(4.0, min(width, height) / count)
    first, second = (bright(rng), dark(rng)) if rng.random() < 0.6 else (vivid(rng), dark(rng, 80))
    shift = rng.uniform(0, 2) * cell + 0.5 * cell * t
    across = ((np.arange(width) + shift) // cell).astype(int)[None, :]
    down = (np.arange(height) // cell).astype(int)[:, None]
    pattern = ((across + down) % 2).astype(bool)[:, :, None]
    return Image.fromarray(np.where(pattern, first, second).astype(np.uint8))


def _backdrop(rng: np.random.Generator, width: int, height: int, colour: Colour) -> Image.Image:
    image = Image.new("RGB", (width, height), colour)
    if rng.random() < 0.5:
        other = vivid(rng)
        rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        mix = np.asarray(colour) * (1 - 0.5 * rows) + np.asarray(other) * 0.5 * rows
        image = Image.fromarray(np.broadcast_to(mix, (height, width, 3)).astype(np.uint8))
    return image


def title_card(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """A few big centred words on a plain backdrop."""
    light = rng.random() < 0.35
    ground = bright(rng, 190) if light else dark(rng, 110)
    loud = rng.random() < 0.3
    if loud:
        ground = vivid(rng)
        light = sum(ground) > 400
    image = _backdrop(rng, width, height, ground)
    pen = ImageDraw.Draw(image)
    ink = dark(rng) if light else (bright(rng) if loud or rng.random() < 0.6 else vivid(rng))
    seed = int(rng.integers(0, 2**31)) if rng.random() < 0.35 else None
    rows = int(rng.integers(1, 4))
    lines = []
    for row in range(rows):
        text = phrase(rng, int(rng.integers(1, 4)))
        size = round(min(width, height) * rng.uniform(0.1, 0.2) * (1.0 if row == 0 else 0.6))
        line = Line(text, size, None if seed is None else seed + row)
        if line.width > width * 0.9:
            line = Line(text, int(size * width * 0.9 / line.width), None)
        lines.append(line)
    top = (height - sum(line.height for line in lines)) / 2 - 0.02 * height * t
    for line in lines:
        line.draw(pen, (width - line.width) / 2, top, ink)
        top += line.height
    if rng.random() < 0.4:
        half = width * rng.uniform(0.1, 0.35)
        pen.line((width / 2 - half, top + 4, width / 2 + half, top + 4), ink, max(1, height // 120))
    return image


def code_screen(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """Source code or a terminal: many short coloured lines, left-aligned, on a dark ground."""
    image = Image.new("RGB", (width, height), dark(rng, 45))
    pen = ImageDraw.Draw(image)
    size = max(7, round(min(width, height) * rng.uniform(0.035, 0.06)))
    inks = [bright(rng, 150), (120, 220, 140), (240, 190, 90), (120, 180, 250), (220, 130, 210)]
    green = rng.random() < 0.3
    gutter = size * 2.5 if rng.random() < 0.6 else size * 0.6
    indent = 0
    rows = int(height / (size * 1.25))
    for row in range(rows):
        indent = int(np.clip(indent + rng.integers(-1, 2), 0, 5))
        blank, words = rng.random() < 0.1, int(rng.integers(1, 6))
        left = gutter + indent * size * 1.2
        top = row * size * 1.25 + 2
        if gutter > size:
            Line(str(row + 1), size).draw(pen, size * 0.5, top, (95, 95, 105))
        for _ in range(words):
            text = phrase(rng, 1).lower() + ("()", ":", " =", "", ";")[int(rng.integers(0, 5))]
            ink = inks[1] if green else inks[int(rng.integers(0, 5))]
            line = Line(text, size)
            if not blank:
                line.draw(pen, left, top, ink)
            left += line.width + size * 0.5
    if int(t * 8) % 2 == 0:
        low = rows * size * 1.25 - size
        pen.rectangle((gutter, low, gutter + size * 0.6, low + size), inks[0])
    return image


def table(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """A spreadsheet: ruled cells with numbers under a coloured header row."""
    light = rng.random() < 0.75
    ground, ink = ((250, 250, 252), (40, 40, 45)) if light else ((38, 40, 46), (220, 220, 225))
    rule = (190, 194, 200) if light else (84, 88, 96)
    image = Image.new("RGB", (width, height), ground)
    pen = ImageDraw.Draw(image)
    rows, columns = int(rng.integers(6, 15)), int(rng.integers(3, 8))
    tall, wide = height / rows, width / columns
    size = max(6, int(min(tall * 0.55, wide * 0.24)))
    head = vivid(rng)
    pen.rectangle((0, 0, width, tall), head)
    picked = 1 + int((rng.random() + t) * (rows - 1)) % (rows - 1)
    tint = (214, 230, 250) if light else (60, 74, 96)
    pen.rectangle((0, picked * tall, width, (picked + 1) * tall), tint)
    for row in range(rows):
        for column in range(columns):
            words = row == 0 or column == 0
            text = phrase(rng, 1)[:8] if words else digits(rng, int(rng.integers(2, 5)))
            at = (column * wide + wide * 0.12, row * tall + tall * 0.2)
            Line(text, size).draw(pen, *at, (255, 255, 255) if row == 0 else ink)
    for row in range(1, rows):
        pen.line((0, row * tall, width, row * tall), rule)
    for column in range(1, columns):
        pen.line((column * wide, 0, column * wide, height), rule)
    return image


def map_view(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """A street map: pale land, parks, water, white and yellow roads, a route and a pin."""
    image = Image.new("RGB", (width, height), (238, 234, 224))
    pen = ImageDraw.Draw(image)
    short = min(width, height)
    relief = smooth_noise(rng, width // 4 + 1, height // 4 + 1, 3, 2)
    for level, fill in ((0.3, (162, 204, 240)), (0.62, (200, 228, 188))):
        mask = relief < level if level < 0.5 else relief > level + 0.1
        shape = Image.fromarray((mask * 255).astype(np.uint8)).resize((width, height))
        image.paste(fill, (0, 0), shape)
    roads = int(rng.integers(7, 15))
    angle = float(rng.uniform(0, 3.14))
    for road in range(roads):
        turn = angle + (1.57 if road % 2 else 0.0) + rng.normal(0, 0.12)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        dx, dy = np.cos(turn) * 2 * short, np.sin(turn) * 2 * short
        big = road < 3
        thick = max(2, round(short * (0.028 if big else 0.014)))
        ends = [(x - dx, y - dy), (x + dx, y + dy)]
        pen.line(ends, (205, 200, 190), thick + 2)
        pen.line(ends, (252, 214, 120) if big else (255, 255, 255), thick)
    route = [(rng.uniform(0.15, 0.85) * width, rng.uniform(0.15, 0.85) * height) for _ in range(4)]
    pen.line(route, (52, 120, 246), max(3, short // 45), joint="curve")
    x, y = route[-1]
    x, size = x + 0.03 * short * t, short * 0.06
    pen.polygon([(x - size * 0.7, y - size), (x + size * 0.7, y - size), (x, y)], (226, 56, 46))
    pen.ellipse((x - size * 0.8, y - size * 2.2, x + size * 0.8, y - size * 0.6), (226, 56, 46))
    pen.ellipse((x - size * 0.3, y - size * 1.7, x + size * 0.3, y - size * 1.1), (255, 255, 255))
    return image.filter(ImageFilter.SMOOTH)
