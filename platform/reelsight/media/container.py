"""Opening untrusted bytes: forced demuxer, no other file, one video stream, caps first.

Nothing of the picture data is scaled or returned here. The only input is a block of memory: every
attempt of a demuxer to open something else is refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from reelsight.media.limits import MediaLimits, over_limit
from reelsight.media.magic import claimed_bytes, demuxer_for
from reelsight.media.video_stream import (
    check_header,
    choose_stream,
    codec_of,
    one_thread,
    unreadable,
)

__all__ = ["Source", "open_source"]


@dataclass(frozen=True, slots=True)
class Source:
    """An open container and the one video stream that will be decoded.

    Attributes:
        container: Open for reading, positioned at its start.
        stream: The chosen stream; its decoder is not open yet.
        demuxer: FFmpeg's name of the forced demuxer.
        codec: FFmpeg's canonical codec name.
        cut_short: Whether the container claims more bytes than there are.
    """

    container: InputContainer
    stream: VideoStream
    demuxer: str
    codec: str
    cut_short: bool

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Coded pictures in file order, then one empty packet that drains the decoder.

        Raises:
            av.FFmpegError: The demuxer met something that it cannot read past.
        """
        try:
            yield from self.container.demux(self.stream)
        except IndexError:
            # PyAV's draining loop trips over streams that a transport stream announced late; they
            # come after ours, so nothing of ours is lost.
            return


@contextmanager
def open_source(data: bytes, limits: MediaLimits) -> Iterator[Source]:
    """Open a container held in memory and choose its video stream.

    Args:
        data: The whole file.
        limits: Caps, checked against the header before any frame is decoded for us.

    Raises:
        MediaError: `media.unrecognised_container`, `media.unreadable`, `media.no_video`,
            `media.codec_refused`, `media.no_frames` or `media.over_limit`.
    """
    if len(data) > limits.max_bytes:
        raise over_limit("size (bytes)", len(data), limits.max_bytes, "max_bytes")
    demuxer = demuxer_for(data)
    claimed = claimed_bytes(data)
    cut_short = claimed is not None and claimed > len(data)
    with _open(data, demuxer, limits) as container:
        stream = choose_stream(container, cut_short)
        codec = codec_of(stream, limits)
        check_header(container, stream, limits)
        one_thread(stream, limits)
        yield Source(container, stream, demuxer, codec, cut_short)


def _open(data: bytes, demuxer: str, limits: MediaLimits) -> InputContainer:
    """Open with everything shut that could lead out of `data`."""
    try:
        return av.open(
            io.BytesIO(data),
            mode="r",
            format=demuxer,
            options={"max_pixels": str(round(limits.max_megapixels * 1e6))},
            container_options={
                "protocol_whitelist": "none",
                "codec_whitelist": ",".join((*limits.codecs, "libdav1d")),
                "max_streams": str(limits.max_streams + 1),
            },
            metadata_errors="replace",
            io_open=_refuse_open,
        )
    except (FFmpegError, ValueError, OverflowError) as error:
        # PyAV raises bare ValueErrors for headers whose numbers it cannot represent.
        raise unreadable(f"the {demuxer} header cannot be read: {_reason(error)}") from error


def _refuse_open(url: str, flags: int, options: dict[str, str]) -> NoReturn:
    raise PermissionError(f"a container may not open {url!r}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
