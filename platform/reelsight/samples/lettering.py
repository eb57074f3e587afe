"""Text in pictures: words, a font that ships with Pillow, and made-up square glyphs.

No font file of the machine is used, so a seed draws the same letters everywhere. The square glyphs
stand in for scripts such as Chinese, which the shipped font lacks.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import ImageDraw, ImageFont

from reelsight.samples.canvas import Colour

__all__ = ["Line", "digits", "phrase"]

_SOUNDS = (
    "ka lo mi ta re so na vi du pe gra sto ble ing er on the and you for day go we it now "
    "who this was not from what they new one big how see way all time out can best top"
)
_SYLLABLES = _SOUNDS.split()


@lru_cache(maxsize=128)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def phrase(rng: np.random.Generator, words: int) -> str:
    """A line of plausible words."""
    picks = rng.integers(0, len(_SYLLABLES), (words, 2))
    single = rng.random(words) < 0.5
    text = " ".join(
        _SYLLABLES[a] + ("" if alone else _SYLLABLES[b])
        for (a, b), alone in zip(picks.tolist(), single.tolist(), strict=True)
    )
    return text.upper() if rng.random() < 0.25 else text.capitalize()


def digits(rng: np.random.Generator, count: int) -> str:
    """A string of decimal digits."""
    return "".join(str(d) for d in rng.integers(0, 10, count))


class Line:
    """One line of text that knows its size before it is drawn.

    Args:
        text: What to write.
        size: Letter height in pixels, about.
        glyph_seed: When given, square made-up glyphs are drawn instead of the letters, one for
            every two letters.
    """

    def __init__(self, text: str, size: int, glyph_seed: int | None = None) -> None:
        self.text = text
        self.size = max(5, size)
        self._glyphs: list[list[tuple[float, ...]]] = []
        if glyph_seed is not None:
            rng = np.random.default_rng(glyph_seed)
            self._glyphs = [_glyph(rng) for _ in range(max(2, len(text) // 2))]
            self.width = len(self._glyphs) * self.size
        else:
            self.width = max(1, round(_font(self.size).getlength(text)))
        self.height = round(self.size * 1.2)

    def draw(
        self,
        pen: ImageDraw.ImageDraw,
        left: float,
        top: float,
        colour: Colour | tuple[int, int, int, int],
        outline: Colour | None = None,
    ) -> None:
        """Write the line with its top left corner at (left, top)."""
        edge = max(1, self.size // 14)
        if not self._glyphs:
            extra = {} if outline is None else {"stroke_width": edge, "stroke_fill": outline}
            pen.text((left, top), self.text, fill=colour, font=_font(self.size), **extra)  # type: ignore[arg-type]
            return
        for index, strokes in enumerate(self._glyphs):
            origin = left + index * self.size
            for x0, y0, x1, y1 in strokes:
                ends = [
                    (origin + x0 * self.size, top + y0 * self.size),
                    (origin + x1 * self.size, top + y1 * self.size),
                ]
                if outline is not None:
                    pen.line(ends, fill=outline, width=edge * 3)
                pen.line(ends, fill=colour, width=edge)


def _glyph(rng: np.random.Generator) -> list[tuple[float, ...]]:
    strokes: list[tuple[float, ...]] = []
    for _ in range(int(rng.integers(4, 8))):
        kind, a, b = rng.random(3)
        a, b = 0.12 + 0.76 * float(a), 0.12 + 0.76 * float(b)
        if kind < 0.45:
            strokes.append((0.1, a, 0.88, a))
        elif kind < 0.8:
            strokes.append((a, 0.1, a, 0.9))
        else:
            strokes.append((a, 0.1, b, 0.9))
    return strokes
