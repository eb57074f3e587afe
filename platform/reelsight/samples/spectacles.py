"""Drawn worlds and weather: cartoon, stars, fireworks and fire; snow and rain over a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from reelsight.samples.canvas import Canvas, bright, dark, smooth_noise, vivid

__all__ = ["cartoon", "fire", "fireworks", "rain", "snow", "starfield"]


def cartoon(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """Flat saturated shapes with thick dark outlines: hills, sun, clouds, round creatures."""
    image = Image.new("RGB", (width, height), vivid(rng))
    pen = ImageDraw.Draw(image)
    short = min(width, height)
    ink, edge = dark(rng, 40), max(2, round(short * rng.uniform(0.008, 0.018)))
    for _ in range(int(rng.integers(1, 4))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height * 0.35), short * 0.09
        for step in (-1.0, 0.0, 1.0):
            left = x + step * size + 0.05 * width * t
            pen.ellipse((left - size, y - size * 0.8, left + size, y + size * 0.8), (255, 255, 255))
    for _ in range(int(rng.integers(1, 3))):
        x, wide = rng.uniform(0, width), rng.uniform(0.5, 1.0) * width
        top = height * rng.uniform(0.6, 0.75)
        pen.ellipse((x - wide, top, x + wide, top + height), vivid(rng), ink, edge)
    for _ in range(int(rng.integers(1, 5))):
        size = short * rng.uniform(0.1, 0.22)
        x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.4, 0.85) * height
        y += np.sin(6.3 * t) * size * 0.2
        body = vivid(rng)
        if rng.random() < 0.6:
            pen.ellipse((x - size, y - size, x + size, y + size), body, ink, edge)
        else:
            pen.rounded_rectangle(
                (x - size, y - size, x + size, y + size), size / 3, body, ink, edge
            )
        for side in (-0.4, 0.4):
            eye, pupil = size * 0.26, size * 0.12
            at = x + side * size
            pen.ellipse(
                (at - eye, y - eye * 1.6, at + eye, y + eye * 0.6), (255, 255, 255), ink, edge
            )
            pen.ellipse((at - pupil, y - pupil * 2, at + pupil, y + pupil * 0.3), ink)
        pen.arc((x - size * 0.5, y, x + size * 0.5, y + size * 0.6), 10, 170, ink, edge)
    return image


def starfield(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """Small points of light on a near-black sky, at times with a faint nebula."""
    sky = np.asarray(dark(rng, 18), np.float32)
    pixels = np.broadcast_to(sky, (height, width, 3)).copy()
    if rng.random() < 0.5:
        cloud = smooth_noise(rng, width, height, 2, 3)[:, :, None] ** 3
        pixels += cloud * np.asarray(vivid(rng), np.float32) * float(rng.uniform(0.15, 0.4))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    count = int(rng.integers(80, 260))
    xs, ys, glow = rng.random(count), rng.random(count), rng.random(count) ** 2
    xs = (xs + 0.05 * t) % 1.0
    unit = min(width, height) / 250
    for x, y, light in zip(
        (xs * width).tolist(), (ys * height).tolist(), glow.tolist(), strict=True
    ):
        size = (0.35 + 1.1 * light) * unit
        level = round(130 + 125 * light)
        pen.ellipse((x - size, y - size, x + size, y + size), (level, level, min(255, level + 12)))
    return image


def fireworks(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """Bursts of coloured sparks radiating on a night sky."""
    image = Image.new("RGB", (width, height), dark(rng, 32))
    pen = ImageDraw.Draw(image)
    short = min(width, height)
    for _ in range(int(rng.integers(1, 6))):
        x, y = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.7) * height
        radius = short * rng.uniform(0.12, 0.36) * (0.7 + 0.3 * t)
        colour, second = vivid(rng), bright(rng, 190)
        rays, hollow = int(rng.integers(16, 44)), float(rng.uniform(0.1, 0.6))
        turn, dotted = rng.uniform(0, 6.3), rng.random() < 0.4
        reach = rng.uniform(0.7, 1.0, rays)
        for ray in range(rays):
            angle = turn + ray * 6.283 / rays
            dx, dy = float(np.cos(angle)), float(np.sin(angle))
            far = radius * float(reach[ray])
            drop = far * far / short * 0.25
            tip = (x + dx * far, y + dy * far + drop)
            if dotted:
                for part in (0.4, 0.6, 0.8, 1.0):
                    px, py = x + dx * far * part, y + dy * far * part + drop * part
                    size = max(0.7, short / 200)
                    pen.ellipse((px - size, py - size, px + size, py + size), colour)
            else:
                pen.line(
                    [(x + dx * far * hollow, y + dy * far * hollow), tip],
                    colour,
                    max(1, short // 160),
                )
            size = max(0.8, short / 140)
            pen.ellipse((tip[0] - size, tip[1] - size, tip[0] + size, tip[1] + size), second)
    glow = image.filter(ImageFilter.GaussianBlur(max(1, short // 70)))
    bright_image = np.maximum(np.asarray(image), np.minimum(np.asarray(glow, np.uint16) * 2, 255))
    return Image.fromarray(bright_image.astype(np.uint8))


def fire(rng: np.random.Generator, width: int, height: int, t: float) -> Image.Image:
    """Flames that rise from the lower edge: red, orange, yellow and white on black."""
    full = (width, height)
    width, height = max(48, width // 2), max(48, height // 2)
    field = smooth_noise(rng, width, height * 2, int(rng.integers(4, 8)), 4)
    start = round((1 - t) * height * 0.5)
    field = field[start : start + height]
    reach = float(rng.uniform(0.7, 1.1))
    rows = np.linspace(1, 0, height, dtype=np.float32)[:, None] / reach
    wave = 0.15 * np.sin(np.linspace(0, rng.uniform(6, 25), width, dtype=np.float32) + 6 * t)
    heat = np.clip((field + 0.62 - rows * (1.05 + wave)) * 1.5, 0, 1.6)
    red = np.clip(heat * 2.2, 0, 1)
    green = np.clip(heat * 1.7 - 0.65, 0, 1)
    blue = np.clip(heat * 1.6 - 1.5, 0, 1)
    flames = Image.fromarray((np.stack([red, green, blue], 2) * 255).astype(np.uint8))
    return flames.resize(full, Image.Resampling.BICUBIC)


def snow(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Falling white flakes of several sizes, soft, over the whole picture."""
    mean = float(np.asarray(canvas.image.resize((16, 16))).mean())
    _veil(canvas, float(rng.uniform(0.1, 0.3)), (176, 184, 196) if mean < 130 else (96, 106, 122))
    count = int(rng.integers(120, 320))
    xs, ys, near = rng.random(count), rng.random(count), rng.random(count)
    mask = Image.new("L", canvas.image.size)
    pen = ImageDraw.Draw(mask)
    ys = (ys + t * (0.3 + 0.7 * near)) % 1.0
    xs = (xs + 0.03 * np.sin(6.3 * t + 9 * near)) % 1.0
    unit = canvas.short / 100
    for across, down, close in zip(xs.tolist(), ys.tolist(), near.tolist(), strict=True):
        size = unit * (0.45 + 1.1 * close * close)
        x, y = across * canvas.width, down * canvas.height
        pen.ellipse((x - size, y - size, x + size, y + size), round(150 + 105 * close))
    canvas.image.paste((250, 251, 255), (0, 0), mask.filter(ImageFilter.GaussianBlur(unit * 0.22)))


def rain(canvas: Canvas, rng: np.random.Generator, t: float) -> None:
    """Slanting bright streaks over a slightly greyed picture."""
    _veil(canvas, float(rng.uniform(0.15, 0.4)), (92, 102, 116))
    count = int(rng.integers(110, 280))
    slant = float(rng.uniform(-0.35, 0.35))
    xs, ys, near = rng.random(count), rng.random(count), rng.random(count)
    ys = (ys + t * 3 * (0.6 + 0.4 * near)) % 1.0
    mask = Image.new("L", canvas.image.size)
    pen = ImageDraw.Draw(mask)
    short = canvas.short
    for across, down, close in zip(xs.tolist(), ys.tolist(), near.tolist(), strict=True):
        length = short * (0.06 + 0.12 * close)
        x, y = (across * 1.4 - 0.2) * canvas.width, (down * 1.2 - 0.1) * canvas.height
        thick = max(1, round(short * (0.003 + 0.004 * close)))
        pen.line((x, y, x + slant * length, y + length), round(130 + 110 * close), thick)
    canvas.image.paste((214, 222, 235), (0, 0), mask)


def _veil(canvas: Canvas, amount: float, colour: tuple[int, int, int]) -> None:
    sheet = Image.new("RGB", canvas.image.size, colour)
    canvas.image = Image.blend(canvas.image, sheet, amount)
