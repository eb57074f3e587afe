"""Sampling through a decoder that hands out pictures by their number, as decord and NVDEC do.

Such decoders know no caps, trust every header and hide what is damaged. So the container is opened
by our own demuxer first: the caps, the time stamps, the turn and the shape of a pixel come from
there, and a clip whose numbers could be read in two ways is refused rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.error import FFmpegError
from av.packet import Packet
from av.video.reformatter import Colorspace
from av.video.stream import VideoStream

from reelsight.media.backends.seam import Capabilities, unsuited
from reelsight.media.container import Source, open_source
from reelsight.media.limits import MediaLimits, over_limit
from reelsight.media.orientation import UPRIGHT, Orientation, orientation_of
from reelsight.media.pixels import Scaler, matrix_of
from reelsight.media.probe import Header, header_of, nothing_decoded
from reelsight.media.reader import FrameReader
from reelsight.media.sampler import Sampling, on_display, stretches, target_count, target_times
from reelsight.media.timeline import header_end, slack_s, tick
from reelsight.media.video_stream import pixel_aspect
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["Chosen", "Facts", "NumberedPictures", "choose", "decode_indexed", "facts_of"]

_GUESSED_MATRIX = 2
_FULL_RANGE = 2
# Seconds. Two demuxers may round one stamp differently; a frame at 250 fps lasts four times this.
_SAME_STAMP_S = 0.001


class NumberedPictures(Protocol):
    """One open clip of a decoder that counts its pictures in display order."""

    @property
    def upright(self) -> bool:
        """Whether pictures come out turned already."""

    def stamps(self) -> npt.NDArray[np.float64] | None:
        """float64 [N] seconds, when each picture comes on display; None when it cannot say."""

    def count(self) -> int:
        """N, the number of pictures."""

    def pictures(self, numbers: Sequence[int]) -> Iterator[npt.NDArray[np.uint8]]:
        """uint8 [H, W, 3] RGB at the coded size for each of `numbers`, ascending.

        Raises:
            MediaError: `media.backend_unsuited` where the decoder fails.
        """


@dataclass(frozen=True, slots=True)
class Facts:
    """What our own demuxer says about a clip.

    Attributes:
        header: Its description.
        seconds: float64 [N] seconds since the first, when each picture comes on display.
        end_s: Seconds: where it ends.
        slack_s: Half a tick of the file's clock.
        sar: Width of a pixel over its height.
        orientation: How a coded picture turns upright.
        width: Of a picture before it is turned, pixels.
        height: Likewise.
        matrix: From YUV to RGB, as told or as `matrix_of` guesses; None for RGB.
        full_range: Whether luma runs from 0 to 255 rather than from 16 to 235.
        interlaced: Whether the first picture is two fields.
    """

    header: Header
    seconds: npt.NDArray[np.float64]
    end_s: float
    slack_s: float
    sar: Fraction
    orientation: Orientation
    width: int
    height: int
    matrix: Colorspace | None
    full_range: bool
    interlaced: bool


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """Which pictures a sampling takes, and what Frames says of them beside their pixels.

    Attributes:
        numbers: Of the pictures in display order, ascending.
        pts, starts, end_s, policy, asked, max_error_s: As in Frames.
    """

    numbers: list[int]
    pts: npt.NDArray[np.float64]
    starts: npt.NDArray[np.float64]
    end_s: float
    policy: str
    asked: int
    max_error_s: float

    def frames(self, clip_id: str, pixels: npt.NDArray[np.uint8]) -> Frames:
        """The noun, with uint8 [N, H, W, 3] pixels of these pictures."""
        return Frames(
            clip_id,
            pixels,
            self.pts,
            starts=self.starts,
            end_s=self.end_s,
            policy=self.policy,
            asked=self.asked,
            max_error_s=self.max_error_s,
        )


def facts_of(
    name: str, data: bytes, limits: MediaLimits, capabilities: Capabilities, guesses_matrix: bool
) -> Facts:
    """Read a clip's packets and decode its first picture, to know what the decoder must give.

    Args:
        name: The backend, for messages.
        data: The whole file.
        limits: Caps.
        capabilities: What the backend takes.
        guesses_matrix: Whether it takes every picture without a told matrix for BT.601.

    Raises:
        MediaError: As `open_source`; `media.backend_unsuited`.
    """
    with open_source(data, limits) as source:
        if source.codec not in capabilities.codecs:
            raise unsuited(name, f"its codec is {source.codec}")
        if source.demuxer not in capabilities.containers:
            raise unsuited(name, f"its container is {source.demuxer}")
        if len(source.container.streams.video) > 1:
            raise unsuited(name, "it holds several video streams")
        if source.cut_short:
            raise unsuited(name, "its end is missing")
        stamps, end, opening = _packet_stamps(name, source, limits)
        first = _picture_of(source, opening) or _first_picture(data, limits)
        untold = first.colorspace == _GUESSED_MATRIX and not first.format.is_rgb
        if guesses_matrix and untold and (first.width >= 1280 or first.height > 576):
            raise unsuited(name, "its colour matrix is not told, and it would guess BT.601")
        unit = float(tick(source.stream))
        believed = header_end(source)
        end = end if believed is None else believed
        return Facts(
            header=header_of(source, first),
            seconds=(stamps - stamps[0]) * unit,
            end_s=float(end - stamps[0]) * unit,
            slack_s=slack_s(source.stream),
            sar=pixel_aspect(source.stream),
            orientation=orientation_of(first),
            width=first.width,
            height=first.height,
            matrix=matrix_of(first),
            full_range=first.color_range == _FULL_RANGE or first.format.name.startswith("yuvj"),
            interlaced=first.interlaced_frame,
        )


def _picture_of(source: Source, packet: Packet[VideoStream] | None) -> VideoFrame | None:
    """What one coded picture gives by itself, without those that a decoder waits for in vain."""
    try:
        frames = (packet.decode() or source.stream.decode(None)) if packet is not None else []
    except FFmpegError:
        # Read from the start in its turn, it is refused in the reader's words.
        return None
    return next((frame for frame in frames if not frame.is_corrupt), None)


def _first_picture(data: bytes, limits: MediaLimits) -> VideoFrame:
    with open_source(data, limits) as source:
        reader = FrameReader(source, limits)
        for _, frame in reader:
            return frame
        raise nothing_decoded(reader)


def _packet_stamps(
    name: str, source: Source, limits: MediaLimits
) -> tuple[npt.NDArray[np.int64], int, Packet[VideoStream] | None]:
    """Ticks of the pictures in display order, where the last one ends, and the first keyframe."""
    stamps, end, keyframe, opening = [], 0, None, None
    try:
        for packet in source.packets():
            if not packet.size:
                continue
            if packet.pts is None or packet.is_discard:
                raise unsuited(name, "it has pictures without a stamp, or that are not shown")
            if packet.is_keyframe:
                keyframe, opening = packet.pts, opening or packet
            elif keyframe is not None and packet.pts < keyframe:
                raise unsuited(name, "its GOPs are open, and it miscounts pictures after a seek")
            stamps.append(packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
            if len(stamps) > limits.max_packets:
                raise over_limit("frames", len(stamps), limits.max_packets, "max_packets")
    except FFmpegError as error:
        raise unsuited(name, f"it breaks off: {error.strerror}") from error
    ticks = np.array(sorted(stamps), np.int64)
    if len(np.unique(ticks)) != len(ticks):
        raise unsuited(name, "several of its pictures carry one stamp")
    return ticks, end, opening


def decode_indexed(
    name: str,
    facts: Facts,
    decoder: NumberedPictures,
    clip: Clip,
    sampling: Sampling,
    geometry: Geometry,
    limits: MediaLimits,
) -> tuple[Clip, Frames]:
    """Ask a decoder for the pictures on display at the sampled times.

    Returns:
        As `media.decode.decode`.

    Raises:
        MediaError: `media.over_limit`; `media.backend_unsuited` where the decoder counts other
            pictures, or gives another number of them, than the container holds.
    """
    chosen = choose(name, facts, decoder.count(), sampling, limits, decoder.stamps())
    numbers = chosen.numbers
    pixels = np.empty((len(numbers), geometry.size, geometry.size, 3), np.uint8)
    scaler = Scaler(geometry)
    orientation = UPRIGHT if decoder.upright else facts.orientation
    turned = decoder.upright and facts.orientation.transpose
    sar = 1 / facts.sar if turned else facts.sar
    given = 0
    for given, picture in enumerate(decoder.pictures(numbers), start=1):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        scaler.scale_into(pixels[given - 1], frame, sar, orientation)
    if given != len(numbers):
        raise unsuited(name, f"of {len(numbers)} pictures asked for it gave {given}")
    return facts.header.fill(clip, facts.end_s), chosen.frames(clip.clip_id, pixels)


def choose(
    name: str,
    facts: Facts,
    count: int,
    sampling: Sampling,
    limits: MediaLimits,
    stamps: npt.NDArray[np.float64] | None = None,
) -> Chosen:
    """Find the pictures that are on display at the sampled times.

    Args:
        name: The backend, for messages.
        facts: Of the clip.
        count: How many pictures the decoder counts.
        sampling: Which times are asked for.
        limits: Caps.
        stamps: float64 [N] seconds, when the decoder shows each; None where it cannot say.

    Raises:
        MediaError: `media.over_limit`; `media.backend_unsuited` where the decoder counts other
            pictures than the container holds.
    """
    asked = target_count(sampling, facts.end_s)
    if asked > limits.max_frames:
        raise over_limit("frames asked for", asked, limits.max_frames, "max_frames")
    _check_stamps(name, facts, count, stamps)
    times = list(target_times(sampling, facts.end_s))
    shown = on_display(facts.seconds, times, facts.slack_s)
    numbers = sorted(set(shown))
    pts = facts.seconds[numbers]
    return Chosen(
        numbers,
        pts,
        starts=stretches(sampling, pts),
        end_s=max(facts.end_s, float(pts[-1])),
        policy=str(sampling),
        asked=max(asked, len(numbers)),
        max_error_s=float(np.abs(np.array(times) - facts.seconds[shown]).max()),
    )


def _check_stamps(
    name: str, facts: Facts, count: int, theirs: npt.NDArray[np.float64] | None
) -> None:
    held = len(facts.seconds)
    if count != held:
        raise unsuited(name, f"it counts {count} pictures where the container holds {held}")
    if theirs is None:
        return
    off = np.abs((theirs - theirs[0]) - facts.seconds).max()
    if off > _SAME_STAMP_S:
        raise unsuited(name, f"its time stamps are off by {off:.3f} s")
