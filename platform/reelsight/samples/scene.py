"""One picture with known labels.

`compose` draws a frame and says exactly which labels are true of it. An overlay that finds no free
place is left out of the picture and of the truth alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from reelsight.errors import ConfigError
from reelsight.samples import (
    charts,
    codes,
    effects,
    layouts,
    overlays,
    screens,
    spectacles,
    stickers,
)
from reelsight.samples.backgrounds import procedural
from reelsight.samples.canvas import Canvas, Pixels, cover
from reelsight.samples.compatibility import conflicts, room_for
from reelsight.samples.vocabulary import group_of, names

__all__ = ["compose", "draw_labels"]

Screen = Callable[[np.random.Generator, int, int, float], Image.Image]
Change = Callable[[Canvas, np.random.Generator, float], bool | None]

_SCREENS: dict[str, Screen] = {
    screen.__name__: screen
    for screen in (
        screens.black_screen,
        screens.white_screen,
        screens.solid_color,
        screens.color_bars,
        screens.static_noise,
        screens.checkerboard,
        screens.title_card,
        screens.code_screen,
        screens.table,
        screens.map_view,
        charts.bar_chart,
        charts.pie_chart,
        charts.line_chart,
        spectacles.cartoon,
        spectacles.starfield,
        spectacles.fireworks,
        spectacles.fire,
    )
}

_CHANGES: tuple[Change, ...] = (
    layouts.split_screen,
    layouts.photo_grid,
    spectacles.snow,
    spectacles.rain,
    effects.blur,
    effects.mosaic,
    effects.overexposed,
    effects.underexposed,
    effects.glitch,
    effects.film_scratches,
    effects.vignette,
    layouts.letterbox,
    layouts.pillarbox,
    layouts.blurred_side_bars,
    layouts.frame_border,
    overlays.watermark_text,
    overlays.ticker,
    overlays.countdown,
    overlays.viewfinder,
    overlays.player_controls,
    overlays.chat_overlay,
    overlays.subtitles,
    layouts.picture_in_picture,
    overlays.logo_overlay,
    codes.qr_code,
    codes.barcode,
    stickers.censor_bar,
    stickers.red_circle,
    stickers.arrow,
    stickers.sticker,
    stickers.emoji,
    overlays.speech_bubble,
    stickers.price_tag,
    stickers.subscribe_button,
    effects.scanlines,
    effects.black_and_white,
    effects.sepia,
    effects.negative,
)
"""In painting order: what comes later lies on top."""


def draw_labels(rng: np.random.Generator) -> frozenset[str]:
    """Choose labels that may share a picture: one on most pictures, up to four on some."""
    kind = rng.random()
    every = names()
    if kind < 0.07:
        return frozenset({"plain_photo"})
    blanks = [name for name in every if group_of(name) == "blank"]
    if kind < 0.17:
        return frozenset({blanks[int(rng.integers(0, len(blanks)))]})
    rest = [name for name in every if group_of(name) not in {"blank", "plain"}]
    chosen = frozenset({rest[int(rng.integers(0, len(rest)))]})
    wanted = int(rng.choice(4, p=(0.4, 0.28, 0.2, 0.12)))
    for pick in rng.permutation(len(rest))[: 4 * wanted].tolist():
        if len(chosen) <= wanted and room_for(rest[pick], chosen):
            chosen |= {rest[pick]}
    return chosen


def compose(
    rng: np.random.Generator,
    labels: Sequence[str] | frozenset[str] | None,
    size: tuple[int, int],
    background: Pixels | None = None,
    t: float = 0.0,
    extras: Sequence[Pixels] = (),
) -> tuple[Pixels, frozenset[str]]:
    """Draw one frame.

    Args:
        rng: Source of every choice. The same state, size and pictures with another t give the same
            scene at another time.
        labels: What to show; drawn at random when None. Not every wanted overlay finds room.
        size: Height and width in pixels, each at least 48.
        background: The picture to work on, uint8 [H, W, 3]; a procedural one when None. Labels
            that fill the frame ignore it.
        t: Time in the scene, 0 to 1; things move gently with it.
        extras: More pictures, for splits, grids and insets.

    Returns:
        The frame, uint8 [height, width, 3], and the labels that are true of it.

    Raises:
        ConfigError: A label is unknown, or two cannot be true at once.
    """
    height, width = size
    wanted = draw_labels(rng) if labels is None else frozenset(labels)
    clashes = conflicts(wanted)
    if clashes:
        raise ConfigError(
            f"labels cannot share a picture: {clashes}", hint="Ask for fewer labels at once."
        )
    seed = int(rng.integers(0, 2**62))
    drawn = next((_SCREENS[name] for name in sorted(wanted) if name in _SCREENS), None)
    own = np.random.default_rng([seed, 0])
    if drawn is not None:
        canvas = Canvas(drawn(own, width, height, t), extras)
        true = {drawn.__name__}
    else:
        if background is None:
            picture = Image.fromarray(procedural(own, width, height, t))
        else:
            picture = cover(background, width, height)
        canvas = Canvas(picture, extras)
        true = set()
    for index, change in enumerate(_CHANGES):
        if change.__name__ in wanted:
            own = np.random.default_rng([seed, index + 1])
            if change(canvas, own, t) is not False:
                true.add(change.__name__)
    frame = np.asarray(canvas.image)
    return frame, frozenset(true or {"plain_photo"})
