"""Thumbnails of the frames that a trace rests on, for people who look at the evidence."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from reelsight.nouns.clip import Clip
from reelsight.nouns.frames import Frames
from reelsight.nouns.mark import SoftBits

__all__ = ["thumbnails_of"]

_WIDTH, _MOST = 144, 24


def thumbnails_of(clip: Clip, frames: Frames, read: SoftBits) -> dict[float, str]:
    """JPEG in base64, by the frame's time in seconds, of the frames of the most weight.

    Args:
        clip: Gives the shape of the picture.
        frames: Of geometry `active`: grey.
        read: What was read of these frames; only their weights are looked at.
    """
    aspect = clip.height / clip.width if clip.width and clip.height else 1.0
    sides = (_WIDTH, min(max(round(_WIDTH * aspect), 1), 2 * _WIDTH))
    found = {}
    for place in np.argsort(-read.quality, kind="stable")[:_MOST]:
        picture = Image.fromarray(np.ascontiguousarray(frames.pixels[place, :, :, 0]))
        data = io.BytesIO()
        picture.resize(sides, Image.Resampling.BILINEAR).save(data, format="JPEG", quality=80)
        found[float(frames.pts[place])] = base64.b64encode(data.getvalue()).decode()
    return found
