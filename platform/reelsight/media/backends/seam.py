"""What a decoder is to everything that is not one: a name, its limits, and decode().

Knows no decoder. Every backend gives the same frames for the same bytes, or refuses the clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from reelsight.errors import MediaError
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["Capabilities", "DecodeBackend", "unsuited"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend takes.

    Attributes:
        codecs: FFmpeg's canonical codec names.
        containers: FFmpeg's demuxer names, as `media.magic.demuxer_for` gives them.
        policies: Sampling policies.
        accuracies: Accuracy levels of a sampling.
        trusted_only: Whether it may be given bytes of trusted sources alone.
        device: Where pictures are decoded, `cpu` or `cuda`.
    """

    codecs: frozenset[str]
    containers: frozenset[str]
    policies: frozenset[str]
    accuracies: frozenset[str]
    trusted_only: bool
    device: str

    def lacks(self, sampling: Sampling) -> str | None:
        """Why a sampling cannot be had, or None where it can."""
        if sampling.policy not in self.policies:
            return f"it does not sample by {sampling.policy!r}"
        if sampling.accuracy not in self.accuracies:
            return f"it knows no accuracy {sampling.accuracy!r}"
        return None


@runtime_checkable
class DecodeBackend(Protocol):
    """One decoder, owned by one thread at a time."""

    @property
    def name(self) -> str:
        """What the setting calls it."""

    @property
    def capabilities(self) -> Capabilities:
        """What it takes."""

    def unusable(self) -> str | None:
        """Why it cannot run on this machine, or None where it can; loads its library."""

    def decode(
        self,
        clip_id: str,
        uri: str,
        data: bytes,
        sampling: Sampling,
        geometry: Geometry,
        limits: MediaLimits,
    ) -> tuple[Clip, Frames]:
        """Sample a clip's frames: arguments, result and errors of `media.decode.decode`.

        Raises:
            MediaError: Also `media.backend_unsuited` where the clip is beyond this backend.
        """

    def close(self) -> None:
        """Free what is kept between clips; idempotent."""


def unsuited(name: str, why: str) -> MediaError:
    """The refusal of a clip that another backend may well decode."""
    return MediaError(
        f"decode backend {name!r} does not take this clip: {why}",
        code="media.backend_unsuited",
        hint="Set media.backend to auto or pyav, which takes every clip that is taken at all.",
    )
