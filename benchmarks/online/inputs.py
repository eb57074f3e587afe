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

__all__ = ["make_clips", "make_images"]

_FULL_HD = (1080, 1920)
_GRAIN = 6
_QUALITY = 90
_KEY_S = 2


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
    directory: Path,
    count: int,
    size: tuple[int, int],
    seconds: int = 10,
    rate: int = 25,
    key_s: int = 2,
) -> list[Path]:
    """H.264 clips by x264's preset `fast`; those there are kept.

    Args:
        directory: Where they go.
        count: How many.
        size: Height and width, pixels.
        seconds: Of each.
        rate: Pictures a second.
        key_s: Seconds from keyframe to keyframe; 0 for the first picture alone. Scene cuts are
            keyframes besides where it is left as it is.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        keys = "" if key_s == _KEY_S else f"-key{key_s}s"
        path = directory / f"clip-{size[1]}x{size[0]}-{seconds}s{keys}-{number}.mp4"
        if not path.exists():
            draft = path.with_suffix(".draft.mp4")
            _encode(draft, np.random.default_rng([1, number]), size, seconds, rate, key_s)
            draft.rename(path)
        paths.append(path)
    return paths


def _grained(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    picture, _ = compose(rng, None, size)
    grain = rng.integers(-_GRAIN, _GRAIN + 1, (*size, 1), np.int16)
    grained: npt.NDArray[np.uint8] = np.clip(picture + grain, 0, 255).astype(np.uint8)
    return grained


def _encode(
    target: Path,
    rng: np.random.Generator,
    size: tuple[int, int],
    seconds: int,
    rate: int,
    key_s: int,
) -> None:
    height, width = size
    room = (height // 4, width // 4)
    with av.open(str(target), "w") as output:
        stream = output.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "fast", "crf": "23"}
        stream.codec_context.gop_size = (key_s or seconds) * rate
        if key_s != _KEY_S:
            stream.options |= {"x264-params": "scenecut=0"}
        for number in range(seconds * rate):
            step = number % (5 * rate)
            if step == 0:
                scene = _grained(rng, (height + room[0], width + room[1]))
            top, left = room[0] * step // (5 * rate), room[1] * step // (5 * rate)
            crop = np.ascontiguousarray(scene[top : top + height, left : left + width])
            output.mux(stream.encode(av.VideoFrame.from_ndarray(crop)))
        output.mux(stream.encode(None))
