"""A contact sheet: sampled frames side by side with their times, for a person to look at.

It draws what it is given; which frames, and from where, it does not know.
"""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from reelsight.nouns.frames import Frames

__all__ = ["contact_sheet"]

_GAP = 6
_LINE = 16
_PAPER, _INK, _FAINT = (250, 250, 250), (20, 20, 20), (120, 120, 120)


def contact_sheet(frames: Frames, title: str, columns: int = 6, aspect: float = 1.0) -> Image.Image:
    """Draw frames in rows.

    Args:
        frames: At least one.
        title: The first line; the second says what was asked and returned.
        columns: Frames in a row, >= 1.
        aspect: Width over height of the displayed picture: square frames that hold a whole picture
            are drawn in its shape.

    Returns:
        An RGB picture.
    """
    size = frames.pixels.shape[1]
    wide, high = (size, round(size / aspect)) if aspect >= 1 else (round(size * aspect), size)
    columns = min(columns, len(frames))
    rows = -(-len(frames) // columns)
    across, down = wide + _GAP, high + _LINE + _GAP
    # Two lines of words want room, even over one narrow frame.
    sheet = Image.new("RGB", (max(columns * across, 420) + _GAP, rows * down + 3 * _LINE), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    pen.text((_GAP, 4), title, _INK, font)
    pen.text((_GAP, 4 + _LINE), _told(frames), _FAINT, font)
    for number, frame in enumerate(frames):
        left = _GAP + number % columns * across
        top = 2 * _LINE + _GAP + number // columns * down
        picture = Image.fromarray(frame.pixels)
        sheet.paste(picture.resize((wide, high), Image.Resampling.BICUBIC), (left, top))
        pen.text((left, top + high + 1), f"{frame.pts:.3f} s", _INK, font)
        pen.text((left + wide // 2, top + high + 1), f"for {frame.weight:.2f} s", _FAINT, font)
    return sheet


def _told(frames: Frames) -> str:
    text = (
        f"{frames.policy}: {frames.returned} frames for {frames.asked} times, "
        f"off by at most {frames.max_error_s:.3f} s, to {frames.end_s:.2f} s"
    )
    return f"{text}; stopped: {frames.stopped}" if frames.partial else text
