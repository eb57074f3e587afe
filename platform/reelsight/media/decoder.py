"""Decoder: what the callers of a decode need to know, whoever decodes and wherever.

They ask for one, decode with it and close it; which backend it is, and whether it works in a child
or here, the settings say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reelsight.errors import MediaError
from reelsight.media.backends.negotiate import BackendName, Choice, negotiate
from reelsight.media.decode import decode, decode_together
from reelsight.media.isolation.policy import Isolation
from reelsight.media.limits import MediaLimits
from reelsight.media.look import Look
from reelsight.media.magic import is_still
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["Decoder", "Decoding", "InProcess", "OnBackend", "open_decoder"]


@dataclass(frozen=True, slots=True)
class Decoding:
    """Who decodes.

    Attributes:
        backend: By name, or `auto` for the best that runs where the decoding is done.
        trusted: Whether every clip comes from a source that is trusted. Backends other than PyAV
            know no caps and run in the process that asks, so they are for trusted sources alone.
        isolation: The process in which PyAV decodes.
    """

    backend: BackendName = "auto"
    trusted: bool = False
    isolation: Isolation = field(default_factory=Isolation)


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

    def decode_together(
        self, clip_id: str, uri: str, data: bytes, looks: Sequence[Look], limits: MediaLimits
    ) -> tuple[Clip, tuple[Frames, ...]]:
        """As `reelsight.media.decode.decode_together`; what fails here may do so for one look."""

    def close(self) -> None:
        """Leave nothing behind; idempotent."""


class InProcess:
    """PyAV here, for clips that are trusted: one that crashes it ends this process."""

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

    def decode_together(
        self, clip_id: str, uri: str, data: bytes, looks: Sequence[Look], limits: MediaLimits
    ) -> tuple[Clip, tuple[Frames, ...]]:
        return decode_together(clip_id, uri, data, looks, limits)

    def close(self) -> None:
        pass


class OnBackend:
    """A backend other than PyAV, and PyAV for what is not the backend's.

    Stills and geometry `active` are PyAV's; so is a clip beyond the backend, where nobody asked for
    the backend by name.

    Args:
        choice: The backend; closed with this.
        pyav: Decodes by PyAV; closed with this.
    """

    def __init__(self, choice: Choice, pyav: Decoder) -> None:
        self._choice, self._pyav = choice, pyav

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
        arguments = (clip_id, uri, data, sampling, geometry, limits)
        # Other backends give RGB, and marks are read from the luma that was coded.
        if not is_still(data) and geometry.mode != "active":
            attempted(1)
            try:
                return self._choice.backend.decode(*arguments)
            except MediaError as error:
                if self._choice.named or error.code != "media.backend_unsuited":
                    raise
        return self._pyav.decode(*arguments, attempted)

    def decode_together(
        self, clip_id: str, uri: str, data: bytes, looks: Sequence[Look], limits: MediaLimits
    ) -> tuple[Clip, tuple[Frames, ...]]:
        # What this backend decodes alone it decodes beside others too: the frames are the same.
        if not is_still(data) and any(look.geometry.mode != "active" for look in looks):
            raise MediaError(
                f"{self._choice.backend.name} decodes for one consumer at a time",
                code="media.apart",
            )
        return self._pyav.decode_together(clip_id, uri, data, looks, limits)

    def close(self) -> None:
        try:
            self._choice.backend.close()
        finally:
            self._pyav.close()


def open_decoder(decoding: Decoding, sampling: Sampling, slots: int = 1) -> Decoder:
    """The decoder that the settings ask for; whoever opens it closes it.

    A backend other than PyAV is tried on small clips first, which takes seconds.

    Args:
        decoding: Who decodes.
        sampling: What will be asked of it.
        slots: Clips that PyAV decodes at a time.

    Raises:
        ConfigError: `config.decode_backend` when the backend that is named cannot be used here.
    """
    choice = negotiate(decoding.backend, sampling, decoding.trusted)
    pyav: Decoder = InProcess()
    if decoding.isolation.enabled:
        from reelsight.media.isolation.pool import (  # noqa: PLC0415 - Linux alone has it.
            DecodePool,
        )

        pyav = DecodePool(decoding.isolation, slots)
    return pyav if choice.backend.name == "pyav" else OnBackend(choice, pyav)
