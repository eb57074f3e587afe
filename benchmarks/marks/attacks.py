"""What happens to a marked film on its way: encoders, sizes, cuts, overlays, a filmed screen.

Films are planar YUV 4:2:0 of limited range with all their colours: some marks are in chroma. An
encoder comes first in every chain but the encoders' own and `none`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av import VideoFrame
from av.error import FFmpegError
from PIL import Image, ImageDraw

__all__ = [
    "ATTACKS",
    "Attack",
    "Film",
    "Picture",
    "frame_of",
    "from_bgr",
    "picture_of",
    "read_film",
    "recoded",
    "to_bgr",
]

Plane = npt.NDArray[np.uint8]
_RATE = 24
# Quiet, and one thread: its CPU time is not what is measured.
_ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "medium", "x264-params": "log-level=error"},
    "libx265": {"preset": "medium", "x265-params": "log-level=none"},
    "libvpx-vp9": {"b:v": "0", "deadline": "good", "cpu-used": "4"},
}


class Picture(NamedTuple):
    """One picture: luma [H, W], and both chroma planes of half its sides."""

    y: Plane
    u: Plane
    v: Plane


Film = list[Picture]
Attack = Callable[[Film], Film]


def read_film(path: Path, *, first: int, count: int, width: int, step: int = 1) -> Film:
    """Pictures of a clip, scaled to a width.

    Args:
        path: The clip.
        first: Picture to begin with.
        count: Pictures.
        width: Pixels, even.
        step: Pictures from one to the next.

    Raises:
        SystemExit: The clip has fewer.
    """
    found: Film = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number < first or (number - first) % step:
                continue
            height = round(frame.height * width / frame.width / 4) * 4
            scaled = frame.reformat(
                width, height, "yuv420p", dst_color_range="MPEG", interpolation="AREA"
            )
            found.append(picture_of(scaled))
            if len(found) == count:
                return found
    raise SystemExit(f"{path} has {len(found)} pictures of {count}, {step} apart from {first}")


def frame_of(picture: Picture) -> VideoFrame:
    """A decoder's frame of a picture."""
    high, wide = picture.y.shape
    whole = np.concatenate([plane.ravel() for plane in picture]).reshape(high * 3 // 2, wide)
    return VideoFrame.from_ndarray(whole, format="yuv420p")


def to_bgr(film: Film) -> list[Plane]:
    """uint8 [H, W, 3] each, as OpenCV has pictures."""
    return [np.asarray(frame_of(p).to_ndarray(format="bgr24"), np.uint8) for p in film]


def from_bgr(pictures: Sequence[Plane]) -> Film:
    """Planar pictures of what `to_bgr` gave."""
    frames = [VideoFrame.from_ndarray(np.ascontiguousarray(p), format="bgr24") for p in pictures]
    return [picture_of(frame.reformat(format="yuv420p")) for frame in frames]


def recoded(film: Film, encoder: str, crf: int) -> Film:
    """A film through an encoder and back.

    Raises:
        SystemExit: The encoder is not there, or fails.
    """
    buffer = io.BytesIO()
    high, wide = film[0].y.shape
    try:
        with av.open(buffer, "w", format="matroska") as out:
            options = {**_ENCODERS[encoder], "crf": str(crf)}
            stream: Any = out.add_stream(encoder, rate=_RATE, options=options)
            stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
            for number, picture in enumerate(film):
                frame = frame_of(picture)
                frame.pts, frame.time_base = number, Fraction(1, _RATE)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        buffer.seek(0)
        with av.open(buffer, "r", format="matroska") as back:
            return [picture_of(frame) for frame in back.decode(video=0)]
    except (FFmpegError, ValueError) as error:
        raise SystemExit(f"{encoder}: {error}") from error


def picture_of(frame: VideoFrame) -> Picture:
    """Planes of a frame of yuv420p."""
    whole = np.asarray(frame.to_ndarray(), np.uint8).ravel()
    pixels, quarter = frame.width * frame.height, frame.width * frame.height // 4
    half = (frame.height // 2, frame.width // 2)
    return Picture(
        whole[:pixels].reshape(frame.height, frame.width),
        whole[pixels : pixels + quarter].reshape(half),
        whole[pixels + quarter :].reshape(half),
    )


def _each(change: Callable[[Plane], Plane]) -> Attack:
    """The same for every plane."""
    return lambda film: [Picture(*(np.ascontiguousarray(change(p)) for p in q)) for q in film]


def _resized(plane: Plane, high: int, wide: int) -> Plane:
    return np.asarray(Image.fromarray(plane).resize((wide, high), Image.Resampling.BILINEAR))


def _half(film: Film, *, back: bool) -> Film:
    high, wide = film[0].y.shape
    # Sides that chroma halves once more.
    sides = (high // 4 * 2, wide // 4 * 2)

    def change(plane: Plane) -> Plane:
        share = plane.shape[0] / high
        small = _resized(plane, round(sides[0] * share), round(sides[1] * share))
        return _resized(small, *plane.shape) if back else small

    return _each(change)(film)


def _cut(share: float) -> Attack:
    """The middle of the picture."""

    def run(film: Film) -> Film:
        high, wide = film[0].y.shape
        top, left = (round(side * (1 - share) / 4) * 2 for side in (high, wide))

        def change(plane: Plane) -> Plane:
            at = plane.shape[0] / high
            down, across = round(top * at), round(left * at)
            return plane[down : plane.shape[0] - down, across : plane.shape[1] - across]

        return _each(change)(film)

    return run


def _brighter(film: Film) -> Film:
    """Luma and chroma by 1.3, as an RGB picture that is made brighter."""

    def times(plane: Plane, zero: int) -> Plane:
        louder = (plane.astype(np.float32) - zero) * 1.3 + zero + 0.5
        return np.asarray(np.clip(louder, 16, 235), np.uint8)

    return [Picture(times(p.y, 16), times(p.u, 128), times(p.v, 128)) for p in film]


def _overlaid(film: Film) -> Film:
    """A logo in a corner and a caption over the width."""
    out = []
    for picture in film:
        image = Image.fromarray(picture.y)
        high, wide = picture.y.shape
        pen = ImageDraw.Draw(image)
        pen.ellipse((wide * 0.86, high * 0.05, wide * 0.96, high * 0.2), 220, 30, 3)
        pen.rectangle((wide * 0.1, high * 0.8, wide * 0.9, high * 0.93), 30)
        pen.text((wide * 0.13, high * 0.83), "breaking news, live from the studio", 225)
        planes = []
        for plane in (picture.u, picture.v):
            changed = plane.copy()
            low, broad = plane.shape
            box = slice(round(low * 0.8), round(low * 0.93)), slice(broad // 10, broad * 9 // 10)
            changed[box] = 128
            planes.append(changed)
        out.append(Picture(np.asarray(image), planes[0], planes[1]))
    return out


def _boxed(film: Film) -> Film:
    """Black bars above and below, an eighth of the height each."""
    out = []
    for picture in film:
        bar = picture.y.shape[0] // 16 * 2
        above = ((bar, bar), (0, 0))
        chroma = ((bar // 2, bar // 2), (0, 0))
        y = np.pad(picture.y, above, constant_values=16)
        u, v = (np.pad(p, chroma, constant_values=128) for p in picture[1:])
        out.append(Picture(y, u, v))
    return out


# Corners of the screen in the filming picture, as shares of its sides: a small tilt.
_CORNERS = ((0.012, 0.008), (0.985, 0.015), (0.99, 0.99), (0.006, 0.982))


def _filmed(film: Film) -> Film:
    """A screen filmed by hand: tilt, blur, its raster against the sensor's, gamma, noise."""
    rng = np.random.default_rng(11)
    out = []
    for picture in film:
        planes = [_tilted(plane) for plane in picture]
        high, wide = planes[0].shape
        rows, columns = np.arange(high)[:, None], np.arange(wide)[None]
        moire = 1 + 0.02 * np.sin(rows * 0.9) * np.sin(columns * 0.83)
        unit = np.clip((planes[0].astype(np.float32) - 16) / 219 * moire, 0, 1) ** 1.12
        glare = 6 * (columns / wide - 0.5)
        luma = unit * 219 + 16 + glare + rng.normal(0, 2.5, unit.shape) + 0.5
        y = np.clip(luma, 16, 235).astype(np.uint8)
        out.append(Picture(y, planes[1], planes[2]))
    return out


def _tilted(plane: Plane) -> Plane:
    """What a camera sees of a plane whose corners lie at _CORNERS, a little blurred."""
    high, wide = plane.shape
    seen = [(x * wide, y * high) for x, y in _CORNERS]
    whole = [(0, 0), (wide, 0), (wide, high), (0, high)]
    matrix, values = [], []
    for (x, y), (u, v) in zip(whole, seen, strict=True):
        matrix += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    terms = np.linalg.solve(np.array(matrix, np.float64), np.array(values, np.float64))
    image = Image.fromarray(plane)
    warped = image.transform(
        (wide, high), Image.Transform.PERSPECTIVE, terms.tolist(), Image.Resampling.BILINEAR
    )
    return np.asarray(warped)


def _after(change: Attack) -> Attack:
    """As it is sent on: encoded at CRF 23 before."""
    return lambda film: change(recoded(film, "libx264", 23))


def _encoder(encoder: str, crf: int) -> Attack:
    return lambda film: recoded(film, encoder, crf)


ATTACKS: dict[str, Attack] = {
    "none": lambda film: film,
    "H.264 CRF 23": _encoder("libx264", 23),
    "H.264 CRF 28": _encoder("libx264", 28),
    "H.264 CRF 34": _encoder("libx264", 34),
    "H.265 CRF 28": _encoder("libx265", 28),
    "VP9 CRF 36": _encoder("libvpx-vp9", 36),
    "CRF 23, half size and back": _after(lambda film: _half(film, back=True)),
    "CRF 23, half size": _after(lambda film: _half(film, back=False)),
    "CRF 23, middle 90 %": _after(_cut(0.9)),
    "CRF 23, middle 80 %": _after(_cut(0.8)),
    "CRF 23, mirrored": _after(_each(lambda plane: plane[:, ::-1])),
    "CRF 23, brightness 1.3": _after(_brighter),
    "CRF 23, logo and caption": _after(_overlaid),
    "CRF 23, letterbox": _after(_boxed),
    "filmed screen, CRF 23": lambda film: recoded(_filmed(film), "libx264", 23),
}
"""By name. `1 fps, CRF 23` is another film: pictures a second apart."""
