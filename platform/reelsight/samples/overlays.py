"""Text that editors lay over a picture: subtitles, tickers, chats, watermarks, counters.

Each painter claims its region on the canvas first and answers False, drawing nothing, when the
region is taken. Random draws never depend on t.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from reelsight.samples.canvas import Canvas, bright, dark, vivid
from reelsight.samples.lettering import Line, digits, phrase

__all__ = [
    "chat_overlay",
    "countdown",
    "logo_overlay",
    "player_controls",
    "speech_bubble",
    "subtitles",
    "ticker",
    "viewfinder",
    "watermark_text",
]


def subtitles(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """One or two centred lines near the lower edge, outlined or on a dark strip."""
    rows = int(rng.integers(1, 3))
    size = round(canvas.short * rng.uniform(0.055, 0.09))
    glyphs = int(rng.integers(0, 2**31)) if rng.random() < 0.4 else None
    texts = [phrase(rng, int(rng.integers(3, 7))) for _ in range(rows)]
    lift, style = rng.uniform(0.03, 0.14), rng.random()
    ink = (255, 255, 255) if rng.random() < 0.65 else (255, 228, 60)
    lines = []
    for row, text in enumerate(texts):
        seed = None if glyphs is None else glyphs + row
        line = Line(text, size, seed)
        while line.width > canvas.width * 0.92 and len(line.text) > 4:
            line = Line(line.text[: int(len(line.text) * 0.8)].rstrip(), size, seed)
        lines.append(line)
    tall, wide = sum(line.height for line in lines), max(line.width for line in lines)
    top = round(canvas.height * (1 - lift) - tall)
    left = (canvas.width - wide) // 2
    if not canvas.claim((left, top, left + wide, top + tall)):
        return False
    if style < 0.35:
        pad = size // 4
        shade = (left - pad, top - pad // 2, left + wide + pad, top + tall + pad)
        canvas.blend_pen().rectangle(shade, (0, 0, 0, 170))
    pen = canvas.pen()
    for line in lines:
        line.draw(pen, (canvas.width - line.width) / 2, top, ink, (0, 0, 0))
        top += line.height
    return True


def ticker(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A news band across the full width, its text running to the left."""
    tall = round(canvas.height * rng.uniform(0.075, 0.13))
    low = rng.random() < 0.85
    top = canvas.height - tall - round(canvas.height * rng.uniform(0, 0.03)) if low else 0
    band, tag = vivid(rng), dark(rng, 90)
    size = min(round(tall * 0.62), round(canvas.short * 0.1))
    line = Line(phrase(rng, 14), size)
    head = Line(("NEWS", "LIVE", "BREAKING", "UPDATE")[int(rng.integers(0, 4))], size)
    start = float(rng.uniform(0, 0.3))
    if not canvas.claim((0, top, canvas.width, top + tall)):
        return False
    pen = canvas.pen()
    pen.rectangle((0, top, canvas.width, top + tall), band)
    ink = (255, 255, 255) if sum(band) < 430 else (10, 10, 20)
    gap = (tall - size) / 2 - size * 0.1
    line.draw(pen, head.width * 1.6 - (start + 0.5 * t) * canvas.width * 0.5, top + gap, ink)
    pen.rectangle((0, top, head.width * 1.4, top + tall), tag)
    head.draw(pen, head.width * 0.2, top + gap, (255, 255, 255))
    return True


def logo_overlay(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A small channel mark in a corner: a simple shape with a short name."""
    size = round(canvas.short * rng.uniform(0.1, 0.17))
    name = Line(phrase(rng, 1)[:6].upper(), round(size * 0.5))
    named = rng.random() < 0.75
    wide = size + (name.width + size // 4 if named else 0)
    shape, colour, second = int(rng.integers(0, 4)), vivid(rng), bright(rng, 225)
    alpha = int(rng.integers(180, 256))
    box = canvas.free_box(rng, wide, size, corner=True)
    if box is None:
        return False
    left, top = box[:2]
    pen = canvas.blend_pen()
    tile = (left, top, left + size, top + size)
    mid_x, mid_y = left + size / 2, top + size / 2
    if shape == 0:
        pen.ellipse(tile, (*colour, alpha))
        pen.ellipse(
            (mid_x - size / 5, mid_y - size / 5, mid_x + size / 5, mid_y + size / 5),
            (*second, alpha),
        )
    elif shape == 1:
        pen.rounded_rectangle(tile, size / 4, (*colour, alpha))
        play = [(left + size * 0.36, top + size * 0.26), (left + size * 0.36, top + size * 0.74)]
        pen.polygon([*play, (left + size * 0.76, mid_y)], (*second, alpha))
    elif shape == 2:
        pen.polygon([(mid_x, top), (left + size, top + size), (left, top + size)], (*colour, alpha))
    else:
        pen.polygon(
            [(mid_x, top), (left + size, mid_y), (mid_x, top + size), (left, mid_y)],
            (*colour, alpha),
        )
    if named:
        at = (left + size * 1.25, top + size * 0.2)
        name.draw(pen, *at, (*second, alpha), (40, 40, 40))
    return True


def countdown(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A big numeral in a ring at the centre, as a film leader or a starting timer."""
    first = int(rng.integers(3, 10))
    radius = round(canvas.short * rng.uniform(0.2, 0.34))
    x, y = canvas.width // 2, canvas.height // 2
    ink, ring = bright(rng, 225), vivid(rng)
    plate, cross = rng.random() < 0.6, rng.random() < 0.4
    box = (x - radius, y - radius, x + radius, y + radius)
    if not canvas.claim(box):
        return False
    pen = canvas.blend_pen()
    if plate:
        pen.ellipse(box, (*dark(rng, 50), 190))
    if cross:
        pen.line((0, y, canvas.width, y), (*ink, 160), max(1, radius // 40))
        pen.line((x, 0, x, canvas.height), (*ink, 160), max(1, radius // 40))
    turns = 3 * t
    thick = max(2, radius // 9)
    pen.arc(box, -90, 270, (*ink, 255), max(1, thick // 3))
    pen.arc(box, -90, -90 + 360 * (1 - turns % 1.0), (*ring, 255), thick)
    line = Line(str(max(1, first - int(turns))), round(radius * 1.25))
    line.draw(pen, x - line.width / 2, y - line.height * 0.55, (*ink, 255), (0, 0, 0))
    return True


def chat_overlay(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A live chat: several short messages with round avatars, stacked at the lower left."""
    rows = int(rng.integers(4, 8))
    size = round(canvas.short * rng.uniform(0.038, 0.055))
    step = round(size * 1.75)
    tall, wide = rows * step, round(canvas.width * rng.uniform(0.42, 0.62))
    right_side = rng.random() < 0.25
    left = canvas.width - wide if right_side else round(canvas.width * 0.02)
    top = round(canvas.height * rng.uniform(0.86, 0.97)) - tall
    plates = rng.random() < 0.65
    parts = [
        (vivid(rng), phrase(rng, 1), phrase(rng, int(rng.integers(1, 4)))) for _ in range(rows)
    ]
    if top < 0 or not canvas.claim((left, top, left + wide, top + tall)):
        return False
    pen = canvas.blend_pen()
    moved = int(t * 4)
    for row in range(rows):
        colour, name, text = parts[(row + moved) % rows]
        y = top + row * step
        who, said = Line(name[:8] + ":", size), Line(text[:16].lower(), size)
        if plates:
            end = min(left + wide, left + size * 2.3 + who.width + said.width)
            pen.rounded_rectangle((left, y, end, y + size * 1.5), size * 0.7, (0, 0, 0, 120))
        pen.ellipse(
            (left + size * 0.2, y + size * 0.2, left + size * 1.3, y + size * 1.3), (*colour, 255)
        )
        edge = None if plates else (0, 0, 0)
        who.draw(pen, left + size * 1.6, y + size * 0.15, (*colour, 255), edge)
        said.draw(pen, left + size * 1.9 + who.width, y + size * 0.15, (255, 255, 255, 255), edge)
    return True


def speech_bubble(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A white comic balloon with a tail and a word or two."""
    wide = round(canvas.short * rng.uniform(0.32, 0.5))
    tall = round(wide * rng.uniform(0.45, 0.65))
    ink = dark(rng, 30)
    line = Line(phrase(rng, 2)[:14], round(tall * 0.24))
    leftward, rounded = rng.random() < 0.5, rng.random() < 0.5
    box = canvas.free_box(rng, wide, round(tall * 1.35))
    if box is None:
        return False
    left, top = box[:2]
    edge = max(2, canvas.short // 110)
    foot = left + wide * (0.25 if leftward else 0.75)
    tip = (foot + (-0.14 if leftward else 0.14) * wide, top + tall * 1.33)
    pen = canvas.pen()
    root = [(foot - wide * 0.08, top + tall * 0.9), (foot + wide * 0.08, top + tall * 0.9)]
    pen.polygon([root[0], tip, root[1]], (255, 255, 255), ink, edge)
    shape = (left, top, left + wide, top + tall)
    if rounded:
        pen.rounded_rectangle(shape, tall / 3, (255, 255, 255), ink, edge)
    else:
        pen.ellipse(shape, (255, 255, 255), ink, edge)
    pen.polygon(
        [
            (root[0][0] + edge, top + tall * 0.9),
            (tip[0], tip[1] - 2 * edge),
            (root[1][0] - edge, top + tall * 0.9),
        ],
        (255, 255, 255),
    )
    line.draw(pen, left + (wide - line.width) / 2, top + tall * 0.36, ink)
    return True


def watermark_text(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A faint word repeated in slanting rows over the whole picture."""
    size = round(canvas.short * rng.uniform(0.06, 0.1))
    line = Line(phrase(rng, 1)[:8] + digits(rng, 2), size)
    angle = float(rng.uniform(15, 45)) * (1 if rng.random() < 0.8 else -1)
    mean = float(np.asarray(canvas.image.resize((16, 16))).mean())
    alpha, level = int(rng.integers(105, 190)), 20 if rng.random() < 0.5 and mean > 125 else 255
    across, down = round(line.width * rng.uniform(1.3, 1.7)), round(size * rng.uniform(2.2, 3.4))
    side = round(np.hypot(canvas.width, canvas.height))
    mask = Image.new("L", (side, side))
    pen = ImageDraw.Draw(mask)
    word = Image.new("L", (line.width + 2, round(size * 1.4)))
    Line(line.text, size).draw(ImageDraw.Draw(word), 0, 0, alpha)  # type: ignore[arg-type]
    for row, y in enumerate(range(0, side, down)):
        for x in range(-(row % 2) * across // 2, side, across):
            mask.paste(word, (x, y))
    del pen
    turned = mask.rotate(angle, Image.Resampling.BILINEAR)
    left, top = (side - canvas.width) // 2, (side - canvas.height) // 2
    window = turned.crop((left, top, left + canvas.width, top + canvas.height))
    canvas.image.paste((level, level, level), (0, 0), window)
    return True


def player_controls(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A video player's interface: a big play triangle, a progress bar with a knob, and times."""
    bar = round(canvas.height * rng.uniform(0.86, 0.94))
    x, y = canvas.width // 2, canvas.height // 2
    radius = round(canvas.short * rng.uniform(0.09, 0.15))
    done, colour = float(rng.uniform(0.1, 0.7)) + 0.2 * t, vivid(rng)
    plate, paused = rng.random() < 0.7, rng.random() < 0.3
    size = round(canvas.short * 0.045)
    foot = (0, bar - size, canvas.width, canvas.height)
    knob = (x - radius, y - radius, x + radius, y + radius)
    if not canvas.claim(foot) or not canvas.claim(knob):
        return False
    pen = canvas.blend_pen()
    if plate:
        pen.ellipse(knob, (0, 0, 0, 150))
    if paused:
        for side in (-1, 1):
            mid = x + side * radius * 0.28
            pen.rectangle(
                (mid - radius * 0.14, y - radius * 0.45, mid + radius * 0.14, y + radius * 0.45),
                (255, 255, 255, 240),
            )
    else:
        points = [
            (x - radius * 0.35, y - radius * 0.5),
            (x - radius * 0.35, y + radius * 0.5),
            (x + radius * 0.55, y),
        ]
        pen.polygon(points, (255, 255, 255, 240))
    pen.rectangle(foot, (0, 0, 0, 110))
    left, right = canvas.width * 0.05, canvas.width * 0.95
    thick = max(2, canvas.short // 70)
    at = left + (right - left) * done
    pen.line((left, bar, right, bar), (210, 210, 210, 200), thick)
    pen.line((left, bar, at, bar), (*colour, 255), thick)
    pen.ellipse(
        (at - thick * 1.6, bar - thick * 1.6, at + thick * 1.6, bar + thick * 1.6),
        (255, 255, 255, 255),
    )
    Line("1:" + digits(rng, 2), size).draw(pen, left, bar + thick * 1.5, (255, 255, 255, 255))
    return True


def viewfinder(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """A camera's recording screen: corner brackets, a red dot with REC, a time code."""
    inset = round(canvas.short * rng.uniform(0.05, 0.1))
    arm = round(canvas.short * rng.uniform(0.1, 0.18))
    size = round(canvas.short * rng.uniform(0.05, 0.075))
    thick = max(2, canvas.short // 100)
    code = f"00:{digits(rng, 2)}:{digits(rng, 2)}"
    right, bottom = canvas.width - inset, canvas.height - inset
    corners = [
        (inset, inset, 1, 1),
        (right, inset, -1, 1),
        (inset, bottom, 1, -1),
        (right, bottom, -1, -1),
    ]
    centred = rng.random() < 0.5
    boxes = [
        (min(x, x + dx * arm), min(y, y + dy * arm), max(x, x + dx * arm), max(y, y + dy * arm))
        for x, y, dx, dy in corners
    ]
    if not all(canvas.claim(box) for box in boxes):
        return False
    pen = canvas.pen()
    for x, y, dx, dy in corners:
        pen.line([(x + dx * arm, y), (x, y), (x, y + dy * arm)], (255, 255, 255), thick)
    if centred:
        x, y = canvas.width // 2, canvas.height // 2
        pen.line((x - arm / 2, y, x + arm / 2, y), (255, 255, 255), thick)
        pen.line((x, y - arm / 2, x, y + arm / 2), (255, 255, 255), thick)
    top = inset + size * 0.5
    pen.ellipse((inset + size * 0.6, top, inset + size * 1.5, top + size * 0.9), (235, 30, 30))
    Line("REC", size).draw(pen, inset + size * 1.9, top - size * 0.1, (255, 255, 255), (30, 30, 30))
    clock = Line(code, size)
    clock.draw(
        pen, right - clock.width - size * 0.5, bottom - size * 1.6, (255, 255, 255), (30, 30, 30)
    )
    return True
