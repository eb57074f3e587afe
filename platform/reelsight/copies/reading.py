"""Reading: sampled frames of a suspect through an extractor, to soft bits of every view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reelsight.copies.texture import SMALLEST_SIDE, texture
from reelsight.copies.views import PLAIN, View, seen_through
from reelsight.engine.host import EngineHost
from reelsight.errors import EngineError
from reelsight.media.luma import Plane
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames
from reelsight.nouns.mark import SoftBits

__all__ = ["read_marks"]

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
    if host.spec.geometry.mode != "active":
        raise EngineError(
            f"{host.spec.model} gives embeddings, not marks",
            code="engine.no_extractor",
            hint="Open the extractor of a pair (marks.pair).",
        )
    luma = frames.pixels[..., 0]
    parts = [slice(at, at + _AT_ONCE) for at in range(0, len(luma), _AT_ONCE)]
    sides = [side for side in (clip.width, clip.height) if side is not None]
    weight = np.float32(min(sides, default=SMALLEST_SIDE) >= SMALLEST_SIDE)
    quality = np.concatenate([texture(luma[part]) for part in parts]) * weight
    attempts = []
    for view in views:
        rows = np.concatenate([_rows(host, seen_through(view, luma[part])) for part in parts])
        attempts.append(
            SoftBits(
                pts=frames.pts,
                soft=rows[:, :-1],
                quality=quality,
                presence=(0.5 * (1 + np.tanh(rows[:, -1] / 2))).astype(np.float32),
                view=view.name,
                extractor_sha256=host.spec.onnx_sha256,
            )
        )
    return attempts


def _rows(host: EngineHost, luma: Plane) -> npt.NDArray[np.float32]:
    """float32 [n, bits + 1] of uint8 [n, S, S]."""
    return host.run(np.repeat(luma[..., None], 3, axis=-1))
