"""Machine-readable marks: pictures with the structure of QR codes and barcodes.

They carry no message. The QR pattern has the finder, timing and alignment marks of the real symbol
with random modules between them, which is all that a tagger of appearance can see.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from reelsight.samples.canvas import Canvas, bright, dark
from reelsight.samples.lettering import Line, digits

__all__ = ["barcode", "qr_code"]


def qr_code(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """One QR symbol with its quiet zone, anywhere on the picture."""
    modules = int(rng.choice([21, 25, 29, 33]))
    bits = rng.random((modules, modules)) < 0.5
    for top, left in ((0, 0), (0, modules - 7), (modules - 7, 0)):
        bits[max(0, top - 1) : top + 8, max(0, left - 1) : left + 8] = False
        bits[top : top + 7, left : left + 7] = True
        bits[top + 1 : top + 6, left + 1 : left + 6] = False
        bits[top + 2 : top + 5, left + 2 : left + 5] = True
    bits[6, 8 : modules - 8] = np.arange(modules - 16) % 2 == 0
    bits[8 : modules - 8, 6] = np.arange(modules - 16) % 2 == 0
    if modules > 21:
        at = modules - 9
        bits[at : at + 5, at : at + 5] = True
        bits[at + 1 : at + 4, at + 1 : at + 4] = False
        bits[at + 2, at + 2] = True
    quiet = int(rng.integers(1, 4))
    bits = np.pad(bits, quiet)
    ink, paper = (dark(rng, 50), bright(rng, 225))
    size = round(canvas.short * rng.uniform(0.24, 0.55))
    box = canvas.free_box(rng, size, size)
    if box is None:
        return False
    pixels = np.where(bits[:, :, None], ink, paper).astype(np.uint8)
    symbol = Image.fromarray(pixels).resize((size * 2, size * 2), Image.Resampling.NEAREST)
    canvas.image.paste(symbol.resize((size, size), Image.Resampling.BOX), box[:2])
    return True


def barcode(canvas: Canvas, rng: np.random.Generator, t: float) -> bool:
    """Upright dark bars of four widths on a white label, with digits under them."""
    bars = int(rng.integers(24, 44))
    widths = rng.integers(1, 5, bars * 2)
    row = np.repeat(np.arange(bars * 2) % 2 == 0, widths)
    row = np.pad(row, 6)
    wide = round(canvas.width * rng.uniform(0.34, 0.6))
    tall = round(wide * rng.uniform(0.35, 0.6))
    number = digits(rng, 13)
    ink, paper, numbered = dark(rng, 40), bright(rng, 235), rng.random() < 0.8
    box = canvas.free_box(rng, wide, tall)
    if box is None:
        return False
    left, top, right, bottom = box
    canvas.pen().rectangle((left, top, right - 1, bottom - 1), paper)
    pixels = np.where(row[None, :, None], ink, paper).astype(np.uint8)
    foot = round(tall * (0.2 if numbered else 0.08))
    strip = Image.fromarray(np.repeat(pixels, 2, axis=0))
    strip = strip.resize((wide * 4, max(2, round(tall * 0.92) - foot)), Image.Resampling.NEAREST)
    canvas.image.paste(
        strip.resize((wide, strip.height), Image.Resampling.BOX), (left, top + tall // 16)
    )
    if numbered:
        line = Line(number, round(foot * 0.75))
        line.draw(canvas.pen(), left + (wide - line.width) / 2, bottom - foot, ink)
    return True
