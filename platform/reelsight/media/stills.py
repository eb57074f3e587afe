"""decode_still: JPEG, PNG and WebP pictures as clips of one frame.

Every cap is checked against the header before anything is unpacked. A JPEG is decoded at the
smallest scale that leaves it at least twice as large as the engine's picture; then all take the
video path's own scaling. Colours are taken as sRGB: embedded ICC profiles are not applied, and CMYK
becomes RGB by its plain formula. What is transparent lies on white.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import simplejpeg
from av import VideoFrame
from av.error import FFmpegError
from PIL import Image

from reelsight.errors import MediaError
from reelsight.media.active_scaler import ActiveScaler
from reelsight.media.exif import orientation_in_exif, orientation_in_jpeg
from reelsight.media.jpeg_segments import ADOBE, header_segments
from reelsight.media.limits import MediaLimits
from reelsight.media.magic import StillFormat
from reelsight.media.orientation import Orientation
from reelsight.media.pixels import FrameScaler, Scaler, scaled_size
from reelsight.media.sampler import Sampling
from reelsight.media.still_header import StillHeader, read_still_header
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames

__all__ = ["STILL_S", "decode_still"]

# A still has no length. It gets the stretch that one frame stands for at one frame a second, so
# that means weighted by seconds have something to divide by.
STILL_S = 1.0
# FFmpeg's canonical names, as the clips of videos carry them.
_CODECS: dict[StillFormat, str] = {"jpeg": "mjpeg", "png": "png", "webp": "webp"}
_FORMATS = {"1": "monob", "L": "gray", "LA": "ya8", "P": "pal8", "RGB": "rgb24", "RGBA": "rgba"}

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Picture:
    """Unpacked pixels, uint8 [H, W, 3] RGB as coded, and how to turn them upright."""

    pixels: Pixels
    orientation: Orientation
    pixel_format: str | None
    stopped: str | None = None


def decode_still(
    clip_id: str,
    uri: str,
    data: bytes,
    sampling: Sampling,
    geometry: Geometry,
    limits: MediaLimits,
) -> tuple[Clip, Frames]:
    """A still picture as a clip of one frame, upright and scaled for an engine.

    Args:
        clip_id: Name that the results carry.
        uri: Where the bytes came from; only recorded.
        data: The whole file.
        sampling: Named in `Frames.policy`; whatever it asks for, a still gives its one picture.
        geometry: The engine's picture size and how the picture fits it.
        limits: Caps, and the policy on damage.

    Returns:
        The described clip, without duration and frame rate, and its frame: uint8
        [1, size, size, 3] RGB at t = 0 s, which stands for `STILL_S`. Of an animation it is the
        first picture, and `Frames.policy` says so. `Frames.stopped` tells of a damaged JPEG that
        `limits.damage` lets pass.

    Raises:
        MediaError: As `read_still_header`; `media.damaged` when the picture is broken or breaks
            off; `media.undecodable` when it cannot be scaled.
    """
    clip = Clip.of_bytes(clip_id, uri, data)
    header = read_still_header(data, limits)
    if header.format == "jpeg":
        picture = _jpeg(data, header, geometry, limits)
    else:
        picture = _by_pillow(data, header)
    turned = picture.orientation.transpose
    clip = replace(
        clip,
        width=header.height if turned else header.width,
        height=header.width if turned else header.height,
        codec=_CODECS[header.format],
        pixel_format=picture.pixel_format,
        rotation=picture.orientation.degrees,
    )
    frames = Frames(
        clip_id,
        _scaled(picture, header, geometry),
        np.zeros(1),
        end_s=STILL_S,
        policy=f"{sampling}, first picture of an animation" if header.animated else str(sampling),
        asked=1,
        stopped=picture.stopped,
    )
    return clip, frames


def _scaled(picture: _Picture, header: StillHeader, geometry: Geometry) -> Pixels:
    """uint8 [1, size, size, 3] by the video path's scaling."""
    height, width = picture.pixels.shape[:2]
    # A JPEG's smaller scales round its sides up; the picture keeps the ratio of its full size.
    aspect = Fraction(header.width * height, header.height * width)
    out = np.empty((1, geometry.size, geometry.size, 3), np.uint8)
    try:
        frame = VideoFrame.from_ndarray(picture.pixels, format="rgb24")
        scaler: FrameScaler
        scaler = ActiveScaler(geometry, {}) if geometry.mode == "active" else Scaler(geometry)
        scaler.scale_into(out[0], frame, aspect, picture.orientation)
    except (FFmpegError, ValueError) as error:
        raise MediaError(
            f"a {header.format} picture of {header.width}x{header.height} cannot be scaled",
            code="media.undecodable",
        ) from error
    return out


def _jpeg(data: bytes, header: StillHeader, geometry: Geometry, limits: MediaLimits) -> _Picture:
    """At the smallest scale that leaves at least twice the target; libjpeg's word on damage."""
    wide, high = scaled_size(header.width, header.height, Fraction(1), geometry)
    stopped = None
    try:
        pixels = _unpack_jpeg(data, header, 2 * wide, 2 * high, strict=True)
    except ValueError as error:
        if limits.damage == "refuse":
            raise _damaged(header, error) from error
        stopped = str(error)
        try:
            pixels = _unpack_jpeg(data, header, 2 * wide, 2 * high, strict=False)
        except ValueError as again:
            raise _damaged(header, again) from again
    layout = {"YCbCr": f"yuvj{header.subsampling}p", "Gray": "gray"}.get(header.colours)
    return _Picture(pixels, orientation_in_jpeg(data), layout, stopped)


def _unpack_jpeg(
    data: bytes, header: StillHeader, min_width: int, min_height: int, strict: bool
) -> Pixels:
    inks = header.colours in ("CMYK", "YCCK")
    pixels: Pixels = simplejpeg.decode_jpeg(
        data,
        "CMYK" if inks else "RGB",
        min_width=min_width,
        min_height=min_height,
        strict=strict,
    )
    return _rgb_of_inks(pixels, data) if inks else pixels


def _rgb_of_inks(inks: Pixels, data: bytes) -> Pixels:
    """R = (255 - C)(255 - K) / 255, and so on; Adobe's files hold 255 - C already."""
    inverted = any(marker == ADOBE for marker, _ in header_segments(data))
    light = (inks if inverted else 255 - inks).astype(np.uint16)
    return ((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def _by_pillow(data: bytes, header: StillHeader) -> _Picture:
    try:
        with Image.open(io.BytesIO(data), formats=(header.format.upper(),)) as image:
            if image.size != (header.width, header.height):
                raise ValueError(f"the picture is {image.size}, its header says otherwise")
            image.load()
            turn = orientation_in_exif(image.info.get("exif") or b"")
            return _Picture(_on_white(image), turn, _FORMATS.get(image.mode))
    except MemoryError:
        raise
    except Exception as error:
        # The boundary to Pillow's parsers, whose errors share no class below this one.
        raise _damaged(header, error) from error


def _on_white(image: Image.Image) -> Pixels:
    """uint8 [H, W, 3] of any mode that PNG and WebP have; of 16 bits the upper 8."""
    if image.mode.startswith("I"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    layered = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(layered, mask=layered)
    return np.asarray(canvas)


def _damaged(header: StillHeader, error: Exception) -> MediaError:
    size = f"{header.width}x{header.height}"
    return MediaError(
        f"the {header.format} picture of {size} cannot be decoded: {error}",
        code="media.damaged",
        hint="Upload it again; a damaged JPEG is kept with media.limits.damage=partial.",
    )
