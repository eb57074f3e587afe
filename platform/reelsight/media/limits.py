"""MediaLimits: what a clip or a still may be before any of it is decoded.

Plain numbers with stated defaults. It does not know where settings come from.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from reelsight.errors import ConfigError, MediaError

__all__ = ["MediaLimits", "over_limit"]


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Caps on one clip. The defaults fit short videos, up to an hour of 8K.

    Attributes:
        max_bytes: Size of the file.
        max_side: Longer side of the coded picture, pixels.
        max_megapixels: Area of the coded picture, millions of pixels.
        max_aspect: Longer side of the displayed picture over its shorter one.
        max_fps: Average frame rate, frames per second.
        max_duration_s: Length, seconds.
        max_packets: Coded pictures in the chosen video stream.
        max_streams: Streams in the container.
        max_frames: Frames that one sampling may ask for.
        max_jpeg_megapixels: Area of a JPEG still, millions of pixels. Larger than for others,
            which have to be unpacked whole: a JPEG is decoded at a fraction of its size. What a
            progressive one needs is held whole all the same, up to 6 bytes a pixel.
        max_jpeg_scans: Passes over the picture in a JPEG still. Progressive encoders write about
            ten; a hundred thousand fit into a megabyte, and each costs a pass over every block.
        codecs: Video codecs that may be opened, by FFmpeg's canonical names. Every decoder is
            attack surface, so the list holds what uploads really use; MPEG-2, MJPEG, ProRes and
            the hundred decoders nobody fuzzes any more stay shut.
        damage: What a coded picture that the decoder refuses in the middle of a clip does. `refuse`
            ends the clip as MediaError `media.damaged`; `partial` keeps the frames before it. A
            missing tail, where all that is there is right, is always partial. A damaged JPEG still
            is refused or kept, grey from the damage on, by the same word; other stills are refused.

    Raises:
        ConfigError: A number is not positive, or `damage` is not one of its two words.
    """

    max_bytes: int = 1 << 30
    max_side: int = 8192
    max_megapixels: float = 36.0
    max_aspect: float = 32.0
    max_fps: float = 250.0
    max_duration_s: float = 3600.0
    max_packets: int = 500_000
    max_streams: int = 32
    max_frames: int = 4096
    max_jpeg_megapixels: float = 64.0
    max_jpeg_scans: int = 64
    codecs: tuple[str, ...] = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4")
    damage: Literal["refuse", "partial"] = "refuse"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not value > 0:
                raise ConfigError(f"media.limits.{field.name} must be > 0, got {value!r}")
        if self.damage not in ("refuse", "partial"):
            raise ConfigError(f"media.limits.damage is 'refuse' or 'partial', got {self.damage!r}")


def over_limit(what: str, value: float, limit: float, setting: str) -> MediaError:
    """The refusal of a clip that is larger than a cap allows.

    Args:
        what: The quantity with its unit, such as `duration (s)`.
        value: What the clip has.
        limit: What is allowed.
        setting: Name of the field in MediaLimits.
    """
    return MediaError(
        f"{what} is {value:g}, the limit is {limit:g}",
        code="media.over_limit",
        hint=f"Raise media.limits.{setting} if clips like this are expected.",
    )
