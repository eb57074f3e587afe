"""Settings of how clips are read."""

from __future__ import annotations

from reelsight.media.backends.negotiate import BackendName
from reelsight.media.decoder import Decoding
from reelsight.media.isolation.policy import Isolation
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.settings.group import Group

__all__ = ["MediaSettings"]


class MediaSettings(Group):
    """How clips are read: which moments are looked at, and what a clip may be.

    Attributes:
        sampling: `policy` rate, count, keyframe, keyframe+fill or scene, with the numbers that it
            reads, and `accuracy` exact, reference or fast; see Sampling.
        limits: Caps checked before any pixel is decoded; see MediaLimits.
        backend: `pyav`; `decord` or `nvdec`, which are refused with the reason where they cannot be
            used; or `auto` for nvdec where sources are trusted and it runs, and PyAV elsewhere.
        trusted: Whether every clip comes from a source that is trusted. Only then do backends other
            than PyAV decode: they know no caps, and what crashes them ends their process.
        isolation: The process in which PyAV decodes: whether there is one, what it may use, and how
            often a clip is tried in it; see Isolation.
    """

    sampling: Sampling = Sampling()
    limits: MediaLimits = MediaLimits()
    backend: BackendName = "auto"
    trusted: bool = False
    isolation: Isolation = Isolation()

    @property
    def decoding(self) -> Decoding:
        """Who decodes."""
        return Decoding(self.backend, self.trusted, self.isolation)
