"""PyAVBackend: the default decoder, in this process. All it does is to call media.decode."""

from __future__ import annotations

from reelsight.media.backends.seam import Capabilities
from reelsight.media.decode import decode
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import ACCURACIES, POLICIES, Sampling
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["PyAVBackend"]


class PyAVBackend:
    """FFmpeg through PyAV, on the CPU: what the others are measured against."""

    name = "pyav"
    capabilities = Capabilities(
        codecs=frozenset(MediaLimits().codecs),
        containers=frozenset(
            {"mov", "matroska", "flv", "ogg", "avi", "mpeg", "mpegts", "h264", "hevc"}
        ),
        policies=frozenset(POLICIES),
        accuracies=frozenset(ACCURACIES),
        trusted_only=False,
        device="cpu",
    )

    def unusable(self) -> str | None:
        return None

    def decode(
        self,
        clip_id: str,
        uri: str,
        data: bytes,
        sampling: Sampling,
        geometry: Geometry,
        limits: MediaLimits,
    ) -> tuple[Clip, Frames]:
        return decode(clip_id, uri, data, sampling, geometry, limits)

    def close(self) -> None:
        """Nothing is kept."""
