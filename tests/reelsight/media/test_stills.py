from __future__ import annotations

import io
import resource
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image

from reelsight.errors import MediaError
from reelsight.media.limits import MediaLimits
from reelsight.media.magic import is_still, still_format
from reelsight.media.sampler import Sampling
from reelsight.media.stills import STILL_S, decode_still
from reelsight.nouns.clip import Clip
from reelsight.nouns.engine_spec import Geometry
from reelsight.nouns.frames import Frames
from tests.reelsight.media.made_clips import number_in
from tests.reelsight.media.made_stills import (
    CODED,
    encoded,
    exif_of,
    extended_webp,
    numbered_image,
    png_bomb,
    png_of,
    resized_jpeg,
)
from tests.reelsight.media.test_pixels import assert_close, first_frame, full_rgb, reference

LIMITS = MediaLimits()
LENIENT = MediaLimits(damage="partial")
NUMBER = 0b1011_0010_0111_0001
# A flat colour through lossy codes and 4:2:0 and back: rounding, twice.
FLAT = 3
Picture = npt.NDArray[np.uint8]


def still(
    data: bytes, geometry: Geometry | None = None, limits: MediaLimits = LIMITS
) -> tuple[Clip, Frames]:
    return decode_still("c", "c.jpg", data, Sampling(), geometry or Geometry(64), limits)


def refusal(data: bytes, limits: MediaLimits = LIMITS) -> MediaError:
    with pytest.raises(MediaError) as caught:
        still(data, limits=limits)
    assert caught.value.stage == "decode"
    assert caught.value.hint
    return caught.value


@pytest.fixture(scope="module")
def photo(videos_dir: Path) -> Image.Image:
    """A real picture, 1280x720."""
    return Image.fromarray(full_rgb(first_frame(videos_dir / "bt709_full_range.mp4")))


@pytest.mark.parametrize(
    ("kind", "options", "codec", "layout"),
    [
        ("JPEG", {}, "mjpeg", "yuvj420p"),
        ("JPEG", {"progressive": True, "subsampling": 0}, "mjpeg", "yuvj444p"),
        ("PNG", {}, "png", "rgb24"),
        ("WEBP", {}, "webp", "rgb24"),
        ("WEBP", {"lossless": True}, "webp", "rgb24"),
    ],
)
def test_a_still_is_a_clip_of_one_frame(
    kind: str, options: dict[str, Any], codec: str, layout: str
) -> None:
    data = encoded(numbered_image(NUMBER), kind, **options)
    assert is_still(data)
    clip, frames = still(data)
    assert number_in(frames.pixels[0]) == NUMBER
    assert (clip.width, clip.height, clip.rotation) == (256, 96, 0)
    assert (clip.codec, clip.pixel_format, clip.size_bytes) == (codec, layout, len(data))
    assert (clip.duration_s, clip.fps) == (None, None)
    assert (frames.pts.tolist(), frames.weights.tolist()) == ([0.0], [STILL_S])
    assert (frames.asked, frames.policy, frames.stopped) == (1, "rate:1", None)


def test_a_video_is_no_still(coded: Callable[..., bytes]) -> None:
    data = coded(stamps=(0, 1), clock=25)
    assert not is_still(data)
    assert refusal(data).code == "media.unrecognised_container"
    assert [still_format(start) for start in (b"", b"\xff\xd8", b"RIFF\0\0\0\0WAVE")] == [None] * 3


@pytest.mark.parametrize("mode", ["squash", "shortest"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_scaling_is_close_to_pil(photo: Image.Image, kind: str, mode: Any) -> None:
    data, geometry = encoded(photo, kind, quality=90), Geometry(224, mode)
    _, frames = still(data, geometry)
    full = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert_close(frames.pixels[0], reference(full, geometry))


@pytest.mark.parametrize(("size", "least"), [((801, 603), 16), ((603, 801), 60), ((90, 70), 64)])
def test_a_jpeg_is_unpacked_at_the_smallest_scale_that_is_twice_the_target(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], least: int
) -> None:
    unpacked: list[Picture] = []
    whole = simplejpeg.decode_jpeg

    def spy(*args: Any, **options: Any) -> Any:
        unpacked.append(whole(*args, **options))
        return unpacked[-1]

    monkeypatch.setattr(simplejpeg, "decode_jpeg", spy)
    still(encoded(numbered_image(1, *size), "JPEG"), Geometry(least, "shortest"))
    (picture,) = unpacked
    eighths = min((k for k in range(1, 9) if min(size) * k / 8 >= 2 * least), default=8)
    assert picture.shape[:2] == (-(-size[1] * eighths // 8), -(-size[0] * eighths // 8))


@pytest.mark.parametrize("orientation", CODED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_comes_out_upright(kind: str, orientation: int) -> None:
    image, turn = numbered_image(NUMBER), CODED[orientation]
    turned = image if turn is None else image.transpose(turn)
    clip, frames = still(encoded(turned, kind, exif=exif_of(orientation)), Geometry(64))
    assert number_in(frames.pixels[0]) == NUMBER
    assert (clip.width, clip.height) == (256, 96)
    assert clip.rotation == {3: 180, 5: 90, 6: 90, 7: 90, 8: 270}.get(orientation, 0)


def test_broken_exif_means_upright() -> None:
    for exif in (b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", exif_of(6)[:-10], exif_of(9)):
        data = encoded(numbered_image(NUMBER), "JPEG", exif=exif)
        assert number_in(still(data)[1].pixels[0]) == NUMBER


COLOUR = (200, 60, 30)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (64, 64), 90), "JPEG", (90, 90, 90)),
        (Image.new("CMYK", (64, 64), (40, 100, 200, 30)), "JPEG", (190, 137, 49)),
        (Image.new("L", (64, 64), 90), "PNG", (90, 90, 90)),
        (Image.new("1", (64, 64), 1), "PNG", (255, 255, 255)),
        (Image.new("RGB", (64, 64), COLOUR).quantize(4), "PNG", COLOUR),
        (Image.fromarray(np.full((64, 64), 90 * 257, np.uint16)), "PNG", (90, 90, 90)),
        (Image.new("LA", (64, 64), (90, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (64, 64), (*COLOUR, 255)), "PNG", COLOUR),
        (Image.new("RGBA", (64, 64), (*COLOUR, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (64, 64), (*COLOUR, 51)), "PNG", (244, 216, 210)),
        (Image.new("RGBA", (64, 64), (*COLOUR, 0)), "WEBP", (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
def test_every_kind_of_colour_becomes_rgb_on_white(
    image: Image.Image, kind: str, expected: tuple[int, int, int]
) -> None:
    _, frames = still(encoded(image, kind))
    assert np.abs(frames.pixels[0].astype(int) - expected).max() <= FLAT


def test_a_transparent_colour_and_sixteen_bits_of_alpha() -> None:
    keyed = encoded(Image.new("RGB", (64, 64), COLOUR), "PNG", transparency=COLOUR)
    assert (still(keyed)[1].pixels == 255).all()
    row = b"\0" + b"\xc8\x00\x3c\x00\x1e\x00\x00\x00" * 64
    deep = png_of(64, 64, zlib.compress(row * 64), depth=16, colour=6)
    assert (still(deep)[1].pixels == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_picture_is_taken_and_that_is_said(kind: str) -> None:
    first, second = numbered_image(NUMBER), numbered_image(5)
    data = encoded(first, kind, save_all=True, append_images=[second], duration=40)
    _, frames = still(data)
    assert number_in(frames.pixels[0]) == NUMBER
    assert frames.policy == "rate:1, first picture of an animation"
    alone = encoded(first, kind)
    assert still(alone)[1].policy == "rate:1"


@pytest.mark.parametrize("size", [(1, 1), (1, 32), (32, 1), (3, 7)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_smallest_pictures(kind: str, size: tuple[int, int]) -> None:
    for mode in ("squash", "shortest"):
        _, frames = still(encoded(Image.new("RGB", size, COLOUR), kind), Geometry(16, mode))
        assert np.abs(frames.pixels[0].astype(int) - COLOUR).max() <= 2 * FLAT


def test_half_a_jpeg_is_refused_or_partial_as_told() -> None:
    whole = encoded(numbered_image(NUMBER), "JPEG")
    half = whole[: len(whole) * 2 // 3]
    assert refusal(half).code == "media.damaged"
    _, frames = still(half, limits=LENIENT)
    assert frames.partial
    assert frames.stopped


@pytest.mark.parametrize("limits", [LIMITS, LENIENT])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_half_of_any_other_still_is_refused(kind: str, limits: MediaLimits) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    assert refusal(whole[: len(whole) * 2 // 3], limits).code == "media.damaged"


SMALL_JPEG = encoded(Image.new("RGB", (64, 64)), "JPEG")
SCAN = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
NOTHING = b"\x78\x9c\x03\x00\x00\x00\x00\x01"
BOMBS = {
    "png, area": (png_of(8000, 8000, NOTHING), "max_megapixels"),
    "png, side": (png_of(60000, 100, NOTHING), "max_side"),
    "png, all ones": (png_of(0xFFFFFFFF, 0xFFFFFFFF, NOTHING), "max_side"),
    "png, really so large": (png_bomb(12000, 4000), "max_side"),
    "jpeg, side": (resized_jpeg(SMALL_JPEG, 60000, 60000), "max_jpeg_megapixels"),
    "jpeg, long": (resized_jpeg(SMALL_JPEG, 65500, 10), "max_side"),
    "jpeg, ribbon": (resized_jpeg(SMALL_JPEG, 4000, 10), "max_aspect"),
    "jpeg, scans": (SMALL_JPEG[:-2] + SCAN * 70, "max_jpeg_scans"),
    "jpeg, scans behind an end in a comment": (
        SMALL_JPEG[:-2] + b"\xff\xfe\0\x04\xff\xd9" + SCAN * 70, "max_jpeg_scans",
    ),
    "webp, canvas": (extended_webp(16384, 16384), "max_side"),
    "webp, animation": (extended_webp(8000, 8000, flags=2), "max_megapixels"),
    "webp, lossless": (
        b"RIFF\x30\0\0\0WEBPVP8L\x20\0\0\0\x2f" + b"\xff" * 40, "max_side",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_from_the_header(name: str) -> None:
    data, setting = BOMBS[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = refusal(data)
    assert error.code == "media.over_limit"
    assert f"media.limits.{setting} " in error.hint
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (png_of(0, 10, NOTHING), "media.unreadable"),
        (png_of(64, 64, NOTHING), "media.damaged"),
        (b"\x89PNG\r\n\x1a\n", "media.unreadable"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "media.unreadable"),
        (b"\xff\xd8\xff", "media.unreadable"),
        (b"\xff\xd8\xff\xd9", "media.unreadable"),
        (resized_jpeg(SMALL_JPEG, 0, 0), "media.unreadable"),
        (extended_webp(64, 64), "media.damaged"),
        (b"RIFF\0\0\0\0WEBP", "media.unreadable"),
        (b"RIFF\0\0\0\0WEBPVP8 " + bytes(40), "media.unreadable"),
        (b"RIFF\0\0\0\0WEBPJUNK" + bytes(40), "media.unreadable"),
    ],
)
def test_broken_headers_are_refused_by_name(data: bytes, code: str) -> None:
    assert refusal(data).code == code


def test_a_large_jpeg_has_an_area_cap_of_its_own(photo: Image.Image) -> None:
    data = encoded(photo, "JPEG")
    assert refusal(data, MediaLimits(max_jpeg_megapixels=0.5)).code == "media.over_limit"
    assert still(data, limits=MediaLimits(max_megapixels=0.5))[1].returned == 1
    assert refusal(data, MediaLimits(max_bytes=1000)).code == "media.over_limit"


def test_what_follows_a_jpeg_is_not_counted_as_its_scans() -> None:
    """Phones append a short video, where any two bytes come up by chance."""
    data = encoded(numbered_image(NUMBER), "JPEG") + SCAN * 1000
    assert number_in(still(data)[1].pixels[0]) == NUMBER
