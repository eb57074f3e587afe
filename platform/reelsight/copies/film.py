"""Film: an asset on disk, read from its first picture to its last, with everything beside them.

Assets are the tenant's own: they are read here, from their path, by as many threads as there are.
The container is still decided by the bytes, and the caps on streams and pictures hold.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av import VideoFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from reelsight.errors import FetchError, MediaError
from reelsight.media.limits import MediaLimits
from reelsight.media.magic import claimed_bytes, demuxer_for
from reelsight.media.timeline import tick
from reelsight.media.video_stream import check_header, choose_stream, codec_of, unreadable

__all__ = ["Film", "open_film"]

_HEAD_BYTES = 1 << 16
# Headers round, and count the time before the first picture.
_MISSING_S = 0.5


@dataclass(frozen=True, slots=True)
class Film:
    """An open film, at its start; gone through once.

    Attributes:
        path: The file.
        container: Open for reading.
        stream: Its pictures.
        codec: FFmpeg's canonical name of their codec.
    """

    path: Path
    container: InputContainer
    stream: VideoStream
    codec: str

    @property
    def unit(self) -> Fraction:
        """Seconds of one tick of the pictures' time stamps."""
        return tick(self.stream)

    @property
    def claimed_s(self) -> float | None:
        """Seconds of pictures that the header promises; None where it does not."""
        if self.stream.duration:
            return float(self.stream.duration * self.unit)
        # Matroska's muxers write it as a tag, hours:minutes:seconds.
        parts = self.stream.metadata.get("DURATION", "").split(":")
        try:
            hours, minutes, seconds = map(float, parts)
        except ValueError:
            return None
        return 3600 * hours + 60 * minutes + seconds

    def require_whole(self, seconds: float) -> None:
        """Compare what was decoded with what the header promises.

        Raises:
            MediaError: `media.damaged`: pictures are missing at the end.
        """
        claimed = self.claimed_s
        if claimed is not None and seconds < claimed - _MISSING_S:
            raise _damaged(self.path, f"its pictures end after {seconds:.2f} of {claimed:.2f} s")

    def frames(self) -> Iterator[VideoFrame]:
        """Pictures in order of display.

        Raises:
            MediaError: `media.damaged`.
        """
        for _, frames in self.packets(()):
            yield from frames

    def packets(
        self, others: tuple[Stream, ...]
    ) -> Iterator[tuple[Packet[Stream] | None, list[VideoFrame]]]:
        """Packets of other streams as they are, and pictures, in the order of the file.

        Args:
            others: Streams whose packets are wanted.

        Yields:
            A packet and no picture, or no packet and the pictures that one gave.

        Raises:
            MediaError: `media.damaged`: a copy of a part is no copy.
        """
        try:
            for packet in self.container.demux(self.stream, *others):
                if packet.stream.index != self.stream.index:
                    if packet.dts is not None:
                        yield packet, []
                    continue
                frames = [f for f in packet.decode() if isinstance(f, VideoFrame)]
                if any(frame.is_corrupt for frame in frames):
                    raise _damaged(self.path, "a picture is corrupt")
                yield None, frames
        except FFmpegError as error:
            raise _damaged(self.path, error.strerror or str(error)) from error


@contextmanager
def open_film(path: Path, limits: MediaLimits) -> Iterator[Film]:
    """Open an asset.

    Raises:
        FetchError: It cannot be read.
        MediaError: As `reelsight.media.container.open_source`.
    """
    try:
        demuxer = _whole(path)
        container = av.open(str(path), format=demuxer, metadata_errors="replace")
    except FFmpegError as error:
        raise unreadable(f"{path} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise FetchError(f"cannot read {path}: {error.strerror}") from error
    with container:
        stream = choose_stream(container, cut_short=False)
        codec = codec_of(stream, limits)
        check_header(container, stream, limits)
        stream.thread_type = "AUTO"
        yield Film(path, container, stream, codec)


def _whole(path: Path) -> str:
    """The demuxer of a file, if all of the file is there."""
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return demuxer_for(b"")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            demuxer = demuxer_for(data[:_HEAD_BYTES])
            # It is read by slices, which a map gives as bytes do.
            claimed = claimed_bytes(cast("bytes", data))
            if claimed is not None and claimed > len(data):
                raise _damaged(path, f"it has {len(data)} of {claimed} bytes")
    return demuxer


def _damaged(path: Path, why: str) -> MediaError:
    return MediaError(
        f"{path} cannot be decoded to its end: {why}",
        code="media.damaged",
        hint="Take the asset from where it is whole.",
    )
