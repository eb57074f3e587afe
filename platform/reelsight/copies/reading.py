"""Reading: sampled frames of a suspect through an extractor, to soft bits of every view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reelsight.copies.texture import SMALLEST_SIDE, texture
from reelsight.copies.views import PLAIN, View, seen_through
from reelsight.engine.host import EngineHost
from reelsight.errors import EngineError
from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames
from reelsight.nouns.mark import SoftBits

__all__ = ["read_marks"]


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
    sides = [side for side in (clip.width, clip.height) if side is not None]
    weight = 0.0 if min(sides, default=SMALLEST_SIDE) < SMALLEST_SIDE else 1.0
    quality = texture(luma) * np.float32(weight)
    attempts = []
    for view in views:
        seen = seen_through(view, luma)
        rows = host.run(np.repeat(seen[..., None], 3, axis=-1)).astype(np.float64)
        attempts.append(
            SoftBits(
                pts=frames.pts,
                soft=rows[:, :-1].astype(np.float32),
                quality=quality,
                presence=(0.5 * (1 + np.tanh(rows[:, -1] / 2))).astype(np.float32),
                view=view.name,
                extractor_sha256=host.spec.onnx_sha256,
            )
        )
    return attempts
