"""A clip's one video stream in an MP4 of its own, coded pictures untouched.

PyNvVideoCodec finds the n-th picture through the container's table of samples. Matroska has none,
only keyframes, and neither have fragmented MP4s before they were read to the end.
"""

from __future__ import annotations

import io

import av
from av.error import FFmpegError

from reelsight.media.backends.seam import unsuited
from reelsight.media.container import open_source
from reelsight.media.limits import MediaLimits

__all__ = ["as_mp4"]

# No picture is cut off by an edit list, whatever its stamp.
_WHOLE = {"use_editlist": "0", "avoid_negative_ts": "make_non_negative"}


def as_mp4(data: bytes, limits: MediaLimits) -> bytes:
    """The same coded pictures in the same order, in a container with a table of samples.

    Stamps may be moved, all by one step: pictures are asked for by number.

    Raises:
        MediaError: As `open_source`; `media.backend_unsuited` where an MP4 cannot hold them.
    """
    sink = io.BytesIO()
    with open_source(data, limits) as source:
        try:
            with av.open(sink, "w", format="mp4", container_options=_WHOLE) as container:
                # Opaque: there need not be an encoder for it.
                stream = container.add_stream_from_template(source.stream, opaque=True)
                for packet in source.packets():
                    if packet.size:
                        packet.stream = stream
                        container.mux(packet)
        except (FFmpegError, ValueError) as error:
            raise unsuited("nvdec", f"it does not go into an MP4: {error}") from error
    return sink.getvalue()
