"""The one video stream of a container that is decoded: which, how checked, how set up.

Reads headers only.
"""

from __future__ import annotations

from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from reelsight.errors import MediaError
from reelsight.media.limits import MediaLimits, over_limit

__all__ = [
    "check_header",
    "check_picture",
    "choose_stream",
    "codec_of",
    "no_frames",
    "one_thread",
    "pixel_aspect",
    "unreadable",
]

_NOT_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


def choose_stream(container: InputContainer, cut_short: bool) -> VideoStream:
    """The stream that stands for the clip.

    Attached pictures and thumbnails are left out; then a stream with the default disposition wins,
    then more pixels, then the lower index. This is FFmpeg's own choice on ordinary files, without
    the parts that depend on probing.

    Raises:
        MediaError: `media.no_video`; `media.unreadable` when the header itself is cut off.
    """
    film = [s for s in container.streams.video if not s.disposition & _NOT_FILM]
    if not film and cut_short:
        raise unreadable("the header is cut off before it names a video stream")
    if not film:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        raise MediaError(
            f"there is no video stream (streams: {kinds or 'none'})",
            code="media.no_video",
            hint="Leave audio files and bare cover pictures out of the manifest.",
        )
    return min(film, key=_rank)


def _rank(stream: VideoStream) -> tuple[bool, int, int]:
    context = stream.codec_context
    area = context.width * context.height if context is not None else 0
    return not stream.disposition & Disposition.default, -area, stream.index


def codec_of(stream: VideoStream, limits: MediaLimits) -> str:
    """FFmpeg's canonical codec name.

    Raises:
        MediaError: `media.codec_refused`.
    """
    context = stream.codec_context
    name = context.codec.canonical_name if context is not None else "unknown"
    if name not in limits.codecs:
        raise MediaError(
            f"video codec {name!r} is not one of {', '.join(limits.codecs)}",
            code="media.codec_refused",
            hint="Re-encode to H.264, or add the codec to media.limits.codecs for trusted input.",
        )
    return name


def check_header(container: InputContainer, stream: VideoStream, limits: MediaLimits) -> None:
    """Refuse by the header alone what is empty or over a cap.

    Raises:
        MediaError: `media.no_frames`, `media.undecodable` or `media.over_limit`.
    """
    width, height = stream.codec_context.width, stream.codec_context.height
    if stream.frames == 0 and stream.duration == 0 and not len(stream.index_entries):
        raise no_frames()
    if width <= 0 or height <= 0:
        raise MediaError(
            f"the header gives no picture size ({width}x{height})",
            code="media.undecodable",
        )
    seconds = (container.duration or 0) / av.time_base
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    check_picture(width, height, pixel_aspect(stream), limits)
    _check(
        ("streams", len(container.streams), limits.max_streams, "max_streams"),
        ("frame rate (1/s)", float(stream.average_rate or 0), limits.max_fps, "max_fps"),
        ("duration (s)", seconds, limits.max_duration_s, "max_duration_s"),
        ("frames", stream.frames, limits.max_packets, "max_packets"),
    )


def check_picture(width: int, height: int, sar: Fraction, limits: MediaLimits) -> None:
    """Refuse a picture of width x height pixels, each `sar` as wide as high, that is over a cap.

    Raises:
        MediaError: `media.over_limit`.
    """
    ratio = float(width * sar / height)
    _check(
        ("longer side (pixels)", max(width, height), limits.max_side, "max_side"),
        ("area (megapixels)", width * height / 1e6, limits.max_megapixels, "max_megapixels"),
        ("aspect ratio", max(ratio, 1 / ratio), limits.max_aspect, "max_aspect"),
    )


def _check(*caps: tuple[str, float, float, str]) -> None:
    for what, value, limit, setting in caps:
        if value > limit:
            raise over_limit(what, value, limit, setting)


def no_frames() -> MediaError:
    """The refusal of a video stream without a single coded picture."""
    return MediaError(
        "the video stream holds no frames",
        code="media.no_frames",
        hint="The recording was stopped before its first picture: upload it again.",
    )


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width over height of one pixel; 1 where unsaid or absurd (beyond 1:4 or 4:1)."""
    sar = stream.sample_aspect_ratio
    plausible = sar is not None and Fraction(1, 4) <= sar <= 4
    return Fraction(sar) if sar is not None and plausible else Fraction(1)


def one_thread(stream: VideoStream, limits: MediaLimits) -> None:
    """One decoder thread: it cannot deadlock, and many clips in parallel fill the cores better.

    The other streams are thrown away by the demuxer.
    """
    for other in stream.container.streams:
        other.discard = Discard.default if other.index == stream.index else Discard.all
    context = stream.codec_context
    context.thread_type = "SLICE"
    context.thread_count = 1
    context.options = {"max_pixels": str(round(limits.max_megapixels * 1e6))}


def unreadable(message: str) -> MediaError:
    """The refusal of a header that makes no sense or is not all there."""
    return MediaError(
        message,
        code="media.unreadable",
        hint="The file is damaged or its index is missing (an upload that broke off).",
    )
