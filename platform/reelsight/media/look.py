"""Look: which moments of a clip somebody wants to see, and how the pictures become their input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reelsight.media.sampler import Sampling
from reelsight.nouns.engine_spec import Geometry

__all__ = ["Look", "why_apart"]


@dataclass(frozen=True, slots=True)
class Look:
    """What one consumer asks of a clip.

    Attributes:
        sampling: Which times are asked for.
        geometry: The picture size, and how a picture becomes one of it.
    """

    sampling: Sampling
    geometry: Geometry


def why_apart(looks: Sequence[Look]) -> str | None:
    """Why one pass over a clip cannot serve several looks; None where it may.

    Scenes are found in the pictures that come by, so other pictures would give other scenes; and
    accuracy `fast` sets the decoder so that all pictures differ a little.
    """
    if any(look.sampling.policy == "scene" for look in looks):
        return "scenes are found in a pass of their own"
    if len({look.sampling.accuracy == "fast" for look in looks}) > 1:
        return "accuracy 'fast' changes every picture"
    return None
