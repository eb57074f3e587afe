"""What is uploaded: drawn pictures as JPEG, and clips that pan over such pictures.

A pan moves every block of every picture, and grain keeps the encoder from skipping any: such a clip
costs its decoder what footage costs. Nothing made here is ever committed.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import simplejpeg

from reelsight.samples import compose

__all__ = ["make_clips", "make_images", "multipart"]

_FULL_HD = (1080, 1920)
_GRAIN = 6
_QUALITY = 90
BOUNDARY = "reelsight-benchmark"


def make_images(
    directory: Path, count: int, size: tuple[int, int] = _FULL_HD, seed: int = 0
) -> list[Path]:
    """JPEGs of quality 90; those that are there are kept.

    Args:
        directory: Where they go.
        count: How many.
        size: Height and width, pixels.
        seed: The same seed draws the same pictures.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = directory / f"image-{size[1]}x{size[0]}-{number}.jpg"
        if not path.exists():
            picture = _grained(np.random.default_rng([seed, number]), size)
            path.write_bytes(simplejpeg.encode_jpeg(picture, _QUALITY))
        paths.append(path)
    return paths


def make_clips(
    directory: Path, count: int, size: tuple[int, int], seconds: int = 10, rate: int = 25
) -> list[Path]:
    """H.264 clips by x264's preset `fast`, a keyframe every two seconds; those there are kept.

    Args:
        directory: Where they go.
        count: How many.
        size: Height and width, pixels.
        seconds: Of each.
        rate: Pictures a second.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = directory / f"clip-{size[1]}x{size[0]}-{seconds}s-{number}.mp4"
        if not path.exists():
            draft = path.with_suffix(".draft.mp4")
            _encode(draft, np.random.default_rng([1, number]), size, seconds, rate)
            draft.rename(path)
        paths.append(path)
    return paths


def multipart(path: Path) -> bytes:
    """A form with the file in its field `file`, which every contender takes."""
    kind = "image/jpeg" if path.suffix == ".jpg" else "video/mp4"
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    return head.encode() + path.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


def _grained(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    picture, _ = compose(rng, None, size)
    grain = rng.integers(-_GRAIN, _GRAIN + 1, (*size, 1), np.int16)
    grained: npt.NDArray[np.uint8] = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return grained


def _encode(
    target: Path, rng: np.random.Generator, size: tuple[int, int], seconds: int, rate: int
) -> None:
    height, width = size
    room = (height // 4, width // 4)
    with av.open(str(target), "w") as output:
        stream = output.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "fast", "crf": "23"}
        stream.codec_context.gop_size = 2 * rate
        for number in range(seconds * rate):
            step = number % (5 * rate)
            if step == 0:
                scene = _grained(rng, (height + room[0], width + room[1]))
            top, left = room[0] * step // (5 * rate), room[1] * step // (5 * rate)
            crop = np.ascontiguousarray(scene[top : top + height, left : left + width])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(crop)))
        output.mux(stream.encode(None))
