"""Decoder: what the callers of a decode need to know, in a child or here.

They ask for one, decode with it and close it; which kind it is, the settings say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from reelsight.media.decode import decode
from reelsight.media.isolation.policy import Isolation
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["Decoder", "InProcess", "open_decoder"]


class Decoder(Protocol):
    """Decodes clips until it is closed."""

    def decode(
        self,
        clip_id: str,
        uri: str,
        data: bytes,
        sampling: Sampling,
        geometry: Geometry,
        limits: MediaLimits,
        attempted: Callable[[int], None] = ...,
    ) -> tuple[Clip, Frames]:
        """As `reelsight.media.decode.decode`; `attempted` hears of each attempt before it."""

    def close(self) -> None:
        """Leave nothing behind; idempotent."""


class InProcess:
    """Decodes here, for clips that are trusted: one that crashes ends this process."""

    def decode(
        self,
        clip_id: str,
        uri: str,
        data: bytes,
        sampling: Sampling,
        geometry: Geometry,
        limits: MediaLimits,
        attempted: Callable[[int], None] = lambda attempt: None,
    ) -> tuple[Clip, Frames]:
        attempted(1)
        return decode(clip_id, uri, data, sampling, geometry, limits)

    def close(self) -> None:
        pass


def open_decoder(isolation: Isolation, slots: int = 1) -> Decoder:
    """The decoder that the settings ask for; whoever opens it closes it.

    Args:
        isolation: Whether in a child, and how far one may go.
        slots: Clips that are decoded at a time.
    """
    if not isolation.enabled:
        return InProcess()
    from reelsight.media.isolation.pool import DecodePool  # noqa: PLC0415 - Linux alone has it.

    return DecodePool(isolation, slots)
