"""Rehearsal: what of a film's marks is left after encoders, as an extractor would see it.

Short takes of films are marked with codes of nobody's, encoded, changed and decoded in memory.
Engines of an extractor are calibrated with such frames and judged by them. It knows no engine but
the writer, and no key: the codes are drawn from a seed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from PIL import Image

from reelsight.copies.film import open_film
from reelsight.copies.marker import Marker
from reelsight.copies.texture import texture
from reelsight.engine.protocol import MarkWriter
from reelsight.errors import MarkError
from reelsight.media.active_scaler import Boxes
from reelsight.media.limits import MediaLimits
from reelsight.media.luma import Box, Plane, active_box, luma_of, plane_of, squash

__all__ = ["RECODINGS", "Recoding", "Take", "rehearse"]

_TAKE = 24
_READ_EVERY = 3
_MOST_WIDE = 640
_LEAST_TEXTURE = 0.3
_LEAST_SIDE = 96
_RATE = 24


@dataclass(frozen=True, slots=True)
class Recoding:
    """What happens to a marked take.

    Attributes:
        name: For people.
        crf: libx264's constant rate factor.
        scale: Of both sides, before it is encoded.
        gain: Of brightness, before it is encoded.
        marked: Whether the take is marked at all.
    """

    name: str
    crf: int
    scale: float = 1.0
    gain: float = 1.0
    marked: bool = True


RECODINGS = (
    Recoding("H.264 CRF 23", 23),
    Recoding("H.264 CRF 28", 28),
    Recoding("H.264 CRF 34", 34),
    Recoding("half the size, H.264 CRF 28", 28, scale=0.5),
    Recoding("brighter by 1.3, H.264 CRF 23", 23, gain=1.3),
    Recoding("unmarked, H.264 CRF 28", 28, marked=False),
)


@dataclass(frozen=True, slots=True)
class Take:
    """One take after one recoding.

    Attributes:
        case: The clip, when it begins, and what was done to it.
        luma: uint8 [n, S, S], as an extractor takes it.
        code: float32 [bits], 0 and 1; None of an unmarked take.
    """

    case: str
    luma: Plane
    code: npt.NDArray[np.float32] | None


def rehearse(
    path: Path,
    writer: MarkWriter,
    limits: MediaLimits,
    *,
    strength_db: float,
    seed: int,
    name: str = "",
    recodings: Sequence[Recoding] = RECODINGS,
) -> Iterator[Take]:
    """Takes of one film, each after each recoding.

    Args:
        path: The film. Flat stretches of it are passed over: nothing is read from them anyway.
        writer: Draws marks.
        limits: Caps.
        strength_db: PSNR of the marks.
        seed: Of the codes.
        name: Of the film in the names of cases; the file's own when empty.
        recodings: What is done to each.

    Raises:
        MediaError: As `open_film`.
        FetchError: The film cannot be read.
        EngineError: The writer failed.
        MarkError: `mark.not_encoded`.
    """
    for number, (at_s, frames) in enumerate(_takes(path, limits, writer.size)):
        rng = np.random.default_rng([seed, number])
        code = rng.integers(0, 2, writer.bits).astype(np.float32)
        plain = [_copy(frame) for frame in frames]
        box = active_box(np.stack([_luma(frame) for frame in plain]).max(axis=0))
        boxes: Boxes = {(plain[0].height, plain[0].width): box}
        marker = Marker(writer, partial(_always, code), strength_db, boxes)
        for at, frame in enumerate(frames):
            marker.mark(frame, at / _RATE)
        for recoding in recodings:
            source = frames if recoding.marked else plain
            luma = _recoded(source, recoding, box, writer.size)
            case = f"{name or path.name} at {at_s:.1f} s, {recoding.name}"
            yield Take(case, luma, code if recoding.marked else None)


def _always(code: npt.NDArray[np.float32], at_s: float) -> npt.NDArray[np.float32]:
    return code


def _takes(path: Path, limits: MediaLimits, size: int) -> Iterator[tuple[float, list[VideoFrame]]]:
    """Stretches of pictures that a mark can be in, planar and small; and when they begin."""
    reformatter = VideoReformatter()
    waiting: list[VideoFrame] = []
    at_s, shape = 0.0, (0, 0)
    with open_film(path, limits) as film:
        for frame in film.frames():
            if min(frame.width, frame.height) < _LEAST_SIDE:
                return
            if _sides(frame) != shape:
                waiting, shape = [], _sides(frame)
            if not waiting:
                at_s = float((frame.pts or 0) * film.unit)
            waiting.append(_small(frame, reformatter))
            if len(waiting) == _TAKE:
                luma = _luma(waiting[0])
                whole = Box(0, luma.shape[0], 0, luma.shape[1])
                if float(texture(squash(luma, whole, size)[None])[0]) >= _LEAST_TEXTURE:
                    yield at_s, waiting
                waiting = []


def _sides(frame: VideoFrame) -> tuple[int, int]:
    return frame.width, frame.height


def _small(frame: VideoFrame, reformatter: VideoReformatter) -> VideoFrame:
    share = min(1.0, _MOST_WIDE / frame.width)
    width, height = (max(2, round(side * share / 2) * 2) for side in _sides(frame))
    small = reformatter.reformat(
        frame, width, height, "yuv420p", dst_color_range="MPEG", interpolation="AREA"
    )
    # Without what else a frame brings along, such as its turn.
    return _copy(small)


def _copy(frame: VideoFrame) -> VideoFrame:
    return VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")


def _luma(frame: VideoFrame) -> Plane:
    return np.asarray(plane_of(frame), np.uint8).copy()


def _recoded(frames: Sequence[VideoFrame], recoding: Recoding, box: Box, size: int) -> Plane:
    """Every third picture after an encoder, as an extractor takes it."""
    high, wide = frames[0].height, frames[0].width
    sides = [max(16, round(side * recoding.scale / 2) * 2) for side in (high, wide)]
    planes = [_changed(_luma(frame), sides, recoding.gain) for frame in frames]
    shown = _through_h264(planes, recoding.crf)
    down, across = (now / before for now, before in zip(sides, (high, wide), strict=True))
    here = Box(
        round(box.top * down),
        round(box.bottom * down),
        round(box.left * across),
        round(box.right * across),
    )
    return np.stack([squash(plane, here, size) for plane in shown[::_READ_EVERY]])


def _changed(luma: Plane, sides: Sequence[int], gain: float) -> Plane:
    if gain != 1.0:
        luma = np.clip((luma.astype(np.float32) - 16) * gain + 16.5, 16, 235).astype(np.uint8)
    if luma.shape == tuple(sides):
        return luma
    picture = Image.fromarray(luma).resize((sides[1], sides[0]), Image.Resampling.BILINEAR)
    return np.asarray(picture)


def _through_h264(planes: Sequence[Plane], crf: int) -> list[Plane]:
    """Luma through libx264 and back; its colours are grey."""
    buffer = io.BytesIO()
    high, wide = planes[0].shape
    grey = np.full((high // 2, wide), 128, np.uint8)
    try:
        with av.open(buffer, "w", format="matroska") as out:
            options = {"preset": "veryfast", "crf": str(crf)}
            stream = out.add_stream("libx264", rate=_RATE, options=options)
            stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
            for number, plane in enumerate(planes):
                frame = VideoFrame.from_ndarray(np.concatenate([plane, grey]), format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, _RATE)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        buffer.seek(0)
        reformatter = VideoReformatter()
        with av.open(buffer, "r", format="matroska") as back:
            return [luma_of(frame, reformatter).copy() for frame in back.decode(video=0)]
    except FFmpegError as error:
        raise MarkError(
            f"a take cannot be encoded: {error.strerror}", code="mark.not_encoded"
        ) from error
