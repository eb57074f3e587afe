"""Encoder: pictures to H.264 by libx264, and everything else of a film as it was.

Times, turn, shape of pixels and colour tags of the pictures are those of the film; sound and
subtitles are copied, not encoded anew. What the container does not take is told, not dropped in
silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
from av import VideoFrame
from av.codec.context import Flags
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.reformatter import ColorRange

from reelsight.copies.film import Film
from reelsight.copies.marker import FORMATS
from reelsight.errors import ConfigError, MarkError
from reelsight.media.orientation import display_matrix

__all__ = ["CopyWriter", "EncoderSettings", "container_of"]

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium"),
    *("slow", "slower", "veryslow"),
)
_COPIED = ("audio", "subtitle")
_OF_THE_FILE = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder"})
_NO_COLOUR = 2


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How pictures are encoded.

    Attributes:
        crf: libx264's constant rate factor, 0 to 51; lower is better and larger.
        preset: libx264's preset.

    Raises:
        ConfigError: A value is outside its range.
    """

    crf: float = 18.0
    preset: str = "medium"

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise ConfigError(f"crf is 0 to 51, got {self.crf!r}")
        if self.preset not in _PRESETS:
            raise ConfigError(f"preset is one of {', '.join(_PRESETS)}, got {self.preset!r}")


def container_of(path: Path) -> str:
    """FFmpeg's muxer for a name.

    Raises:
        MarkError: `mark.container`: no copy is written in such a file.
    """
    found = _CONTAINERS.get(path.suffix.lower())
    if found is None:
        raise MarkError(
            f"a copy is not written as {path.suffix or 'a file without a suffix'}",
            code="mark.container",
            hint=f"Name it {', '.join(_CONTAINERS)}.",
        )
    return found


class CopyWriter:
    """Writes one copy; a context manager, whose end completes the file.

    Args:
        path: The file; replaced.
        container: FFmpeg's muxer.
        film: Whose copy it is.
        settings: How pictures are encoded.

    Attributes:
        copied: Streams that are copied.
        left_out: Streams that are not, in words.
        words: How pictures are encoded, in the encoder's own words; after the first one.

    Raises:
        MarkError: `mark.not_encoded`: the file cannot be begun.
    """

    def __init__(self, path: Path, container: str, film: Film, settings: EncoderSettings) -> None:
        self._film, self._settings = film, settings
        self.copied: list[Stream] = []
        self.left_out: list[str] = []
        self.words = ""
        self._last: int | None = None
        self._early: list[Packet[Any]] = []
        options = {"movflags": "+faststart"} if container in ("mp4", "mov") else {}
        self._out = av.open(str(path), "w", format=container, container_options=options)
        rate = film.stream.average_rate or Fraction(25)
        self._video = self._out.add_stream(
            "libx264",
            rate=rate,
            options={"crf": f"{settings.crf:g}", "preset": settings.preset},
        )
        self._others: dict[int, Stream] = {}
        for stream in film.container.streams:
            self._begin_other(stream)
        kept = {k: v for k, v in film.container.metadata.items() if k not in _OF_THE_FILE}
        self._out.metadata.update(kept)
        self._out.set_chapters(film.container.chapters())

    def format_for(self, frame: VideoFrame) -> str:
        """Pixel format in which a picture is marked and encoded."""
        if frame.format.name in FORMATS:
            return frame.format.name
        return "yuv420p10le" if frame.format.components[0].bits > 8 else "yuv420p"

    def write(self, frame: VideoFrame) -> None:
        """Encode a picture.

        Raises:
            MarkError: `mark.not_encoded`.
        """
        if not self.words:
            self._begin(frame)
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None or (self._last is not None and stamp <= self._last):
            stamp = 0 if self._last is None else self._last + 1
        self._last = frame.pts = stamp
        frame.time_base = self._film.unit
        # Which pictures stand alone, the encoder decides.
        frame.pict_type = 0
        self._encode(frame)
        if self._early:
            self._mux(self._early)
            self._early = []

    def copy(self, packet: Packet[Any]) -> None:
        """Pass on a packet of a stream that is copied.

        Raises:
            MarkError: `mark.not_encoded`.
        """
        packet.stream = self._others[packet.stream.index]
        # The first packet writes the header, which the first picture has a say in.
        if self.words:
            self._mux([packet])
        else:
            self._early.append(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            # Half a file is thrown away by whoever named it; closing may complain of it.
            with suppress(FFmpegError, ValueError):
                self._out.close()
            return
        if self.words:
            self._encode(None)
        try:
            self._out.close()
        except FFmpegError as failure:
            raise _failed(failure) from failure

    def _encode(self, frame: VideoFrame | None) -> None:
        try:
            packets = self._video.encode(frame)
        except (FFmpegError, ValueError) as error:
            raise _failed(error) from error
        self._mux(packets)

    def _mux(self, packets: Sequence[Packet[Any]]) -> None:
        try:
            self._out.mux(packets)
        except (FFmpegError, ValueError) as error:
            raise _failed(error) from error

    def _begin(self, frame: VideoFrame) -> None:
        """Set the encoder up by the first picture."""
        video, context, film = self._video, self._video.codec_context, self._film
        video.width, video.height, video.pix_fmt = frame.width, frame.height, frame.format.name
        context.time_base = video.time_base = film.unit
        context.flags |= Flags.frame_duration
        aspect = film.stream.sample_aspect_ratio
        if aspect:
            context.sample_aspect_ratio = aspect
        context.color_primaries = frame.color_primaries or _NO_COLOUR
        context.color_trc = frame.color_trc or _NO_COLOUR
        context.colorspace = frame.colorspace
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        context.color_range = ColorRange.JPEG if full else frame.color_range
        matrix = display_matrix(frame)
        if matrix is not None:
            video.set_display_matrix(matrix)
        settings = self._settings
        self.words = (
            f"libx264 preset={settings.preset} crf={settings.crf:g} {frame.format.name} "
            f"(PyAV {av.__version__})"
        )

    def _begin_other(self, stream: Stream) -> None:
        if stream.index == self._film.stream.index:
            return
        if stream.type not in _COPIED:
            self.left_out.append(f"stream {stream.index} ({stream.type})")
            return
        name = getattr(stream.codec_context, "name", "unknown codec")
        try:
            other = self._out.add_stream_from_template(stream)
        except (FFmpegError, ValueError, AttributeError) as error:
            raise MarkError(
                f"stream {stream.index} ({stream.type}, {name}) does not fit into the copy's "
                f"container: {error}",
                code="mark.container",
                hint="Write the copy as .mkv, which takes most codecs.",
            ) from error
        other.metadata.update(stream.metadata)
        self._others[stream.index] = other
        self.copied.append(stream)


def _failed(error: Exception) -> MarkError:
    return MarkError(
        f"the copy cannot be encoded: {error}",
        code="mark.not_encoded",
        hint="Check the space on the disk; write the copy as .mkv where a stream does not fit.",
    )
