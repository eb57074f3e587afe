"""Clip: one video, described by where it lies and by what its header says.

Knows nothing of pixels. Every media field may be None, so that a clip which could not be opened is
still a Clip and can be written into a dead letter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

__all__ = ["Clip"]

_ROTATIONS = (None, 0, 90, 180, 270)


@dataclass(frozen=True, slots=True)
class Clip:
    """One video.

    Attributes:
        clip_id: The caller's name for it, unique within a manifest.
        uri: Where its bytes came from.
        sha256: Hex digest of the bytes, or None before they were read.
        size_bytes: Number of bytes, or None before they were read.
        duration_s: Length in seconds, from the first displayed frame to the end.
        width: Display width in pixels, after rotation (coded pixels, not stretched to square ones).
        height: Display height in pixels, after rotation.
        codec: FFmpeg's canonical codec name, such as `h264`, `hevc`, `av1`.
        pixel_format: FFmpeg's pixel format, such as `yuv420p10le`.
        rotation: Clockwise turn that makes the coded picture upright: 0, 90, 180 or 270 degrees.
        fps: Average frame rate, frames per second.

    Raises:
        ValueError: A field is out of its range.
    """

    clip_id: str
    uri: str
    sha256: str | None = None
    size_bytes: int | None = None
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    codec: str | None = None
    pixel_format: str | None = None
    rotation: int | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        if not self.clip_id:
            raise ValueError(f"clip_id must not be empty, got {self.clip_id!r} for {self.uri!r}")
        if self.sha256 is not None and len(self.sha256) != 64:
            raise ValueError(f"sha256 must be 64 hex digits, got {self.sha256!r}")
        if self.rotation not in _ROTATIONS:
            raise ValueError(f"rotation must be one of {_ROTATIONS}, got {self.rotation!r}")
        for name in ("size_bytes", "duration_s", "width", "height", "fps"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name} must be >= 0 or None, got {value!r}")

    @classmethod
    def of_bytes(cls, clip_id: str, uri: str, data: bytes) -> Clip:
        """A clip known by its bytes alone: hashed and measured, not opened."""
        return cls(clip_id, uri, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
