"""Reading: sampled frames of a suspect through an extractor, to soft bits of every view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reelsight.copies.texture import SMALLEST_SIDE, texture
from reelsight.copies.views import PLAIN, SEARCH, View, seen_through
from reelsight.engine.host import EngineHost
from reelsight.errors import EngineError
from reelsight.media.luma import Plane
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.frames import Frames
from reelsight.nouns.mark import SoftBits

__all__ = [
    "parts_of",
    "pictures",
    "quality_of",
    "read_luma",
    "read_marks",
    "require_extractor",
    "soft_bits",
    "views_of",
]

# Frames whose copies are in memory at a time.
_AT_ONCE = 128


def read_marks(
    host: EngineHost, clip: Clip, frames: Frames, views: Sequence[View] = PLAIN
) -> list[SoftBits]:
    """What an extractor reads in a suspect.

    Args:
        host: Of an engine that can `read_mark`.
        clip: The suspect; where its picture is too small for a mark, frames weigh nothing.
        frames: Of geometry `active`, of the host's size.
        views: Ways in which the suspect may show the marked picture.

    Returns:
        One SoftBits a view, in their order; all of them belong into the trace.

    Raises:
        EngineError: `engine.no_extractor`, the host's engine reads no marks; or it failed.
    """
    return read_luma(host, clip, frames.pixels[..., 0], frames.pts, views)


def read_luma(
    host: EngineHost,
    clip: Clip,
    luma: Plane,
    pts: npt.NDArray[np.float64],
    views: Sequence[View] = PLAIN,
) -> list[SoftBits]:
    """As `read_marks`, of pictures that have one channel: uint8 [F, S, S] at `pts`."""
    require_extractor(host.spec)
    quality = quality_of(clip, luma)
    attempts = []
    for view in views:
        rows = [host.run(pictures(view, part)) for part in parts_of(luma)]
        attempts.append(soft_bits(host.spec, view, pts, quality, rows))
    return attempts


def require_extractor(spec: EngineSpec) -> None:
    """Refuse an engine that reads no marks.

    Raises:
        EngineError: `engine.no_extractor`.
    """
    if spec.geometry.mode != "active":
        raise EngineError(
            f"{spec.model} gives embeddings, not marks",
            code="engine.no_extractor",
            hint="Open the extractor of a pair (marks.pair).",
        )


def views_of(search: bool) -> tuple[View, ...]:
    """The views that are read, with or without a search."""
    return SEARCH if search else PLAIN


def parts_of(luma: Plane) -> list[Plane]:
    """Pictures in parts that are in memory at a time, uint8 [n, S, S]."""
    return [luma[at : at + _AT_ONCE] for at in range(0, len(luma), _AT_ONCE)]


def pictures(view: View, luma: Plane) -> npt.NDArray[np.uint8]:
    """What an extractor is given of a view: uint8 [n, S, S, 3] of uint8 [n, S, S]."""
    return np.repeat(seen_through(view, luma)[..., None], 3, axis=-1)


def quality_of(clip: Clip, luma: Plane) -> npt.NDArray[np.float32]:
    """float32 [F]: how much each picture weighs. Nothing of codes is looked at."""
    sides = [side for side in (clip.width, clip.height) if side is not None]
    weight = np.float32(min(sides, default=SMALLEST_SIDE) >= SMALLEST_SIDE)
    return np.concatenate([texture(part) for part in parts_of(luma)]) * weight


def soft_bits(
    spec: EngineSpec,
    view: View,
    pts: npt.NDArray[np.float64],
    quality: npt.NDArray[np.float32],
    rows: Sequence[npt.NDArray[np.float32]],
) -> SoftBits:
    """What an extractor's rows say.

    Args:
        spec: The extractor.
        view: What its pictures were.
        pts: float64 [F].
        quality: float32 [F].
        rows: float32 [n, bits + 1], F in all.
    """
    whole = np.concatenate(rows)
    return SoftBits(
        pts=pts,
        soft=whole[:, :-1],
        quality=quality,
        presence=(0.5 * (1 + np.tanh(whole[:, -1] / 2))).astype(np.float32),
        view=view.name,
        extractor_sha256=spec.onnx_sha256,
    )
