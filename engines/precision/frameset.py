"""FrameSet: frames that a precision is calibrated and judged on, with a hash of their content.

It holds pixels at an engine's size and knows neither labels nor models. `degraded` makes of clean
frames what uploads look like: a calibration on clean frames alone clips what users send.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from engines.precision.writing import writing
from reelsight.atomic import write_whole
from reelsight.errors import EngineError

__all__ = ["FrameSet", "degraded"]

Frame = npt.NDArray[np.uint8]

_HINT = "A frame set is uint8 [n, size, size, 3], RGB, one frame or more."


@dataclass(frozen=True, eq=False)
class FrameSet:
    """Frames as an engine takes them; immutable.

    Attributes:
        frames: uint8 [n, size, size, 3] RGB; read-only.

    Raises:
        EngineError: `engine.bad_frames`: empty, or of another shape or type.
    """

    frames: Frame

    def __post_init__(self) -> None:
        shape, dtype = self.frames.shape, self.frames.dtype
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2]:
            raise EngineError(
                f"frames are {dtype} {list(shape)}", code="engine.bad_frames", hint=_HINT
            )
        if not all(shape):
            raise EngineError("a frame set has no frames", code="engine.bad_frames", hint=_HINT)
        frames = np.ascontiguousarray(self.frames).view()
        frames.setflags(write=False)
        object.__setattr__(self, "frames", frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        return f"FrameSet({len(self)} frames of {self.size}, {self.sha256[:12]})"

    @property
    def size(self) -> int:
        """Side of a frame, pixels."""
        return int(self.frames.shape[1])

    @cached_property
    def sha256(self) -> str:
        """sha256 (hex) over shape and pixels."""
        digest = hashlib.sha256(repr(self.frames.shape).encode())
        digest.update(self.frames.data)
        return digest.hexdigest()

    def joined(self, other: FrameSet) -> FrameSet:
        """The frames of both.

        Raises:
            EngineError: `engine.bad_frames`: their sizes differ.
        """
        if other.size != self.size:
            raise EngineError(
                f"frames of {self.size} and of {other.size} pixels cannot be one set",
                code="engine.bad_frames",
                hint=_HINT,
            )
        return FrameSet(np.concatenate([self.frames, other.frames]))

    def save(self, path: Path) -> Path:
        """Write as safetensors, whole.

        Raises:
            EngineError: `engine.unwritable`.
        """
        with writing(path):
            return write_whole(path, save({"frames": self.frames}, {"sha256": self.sha256}))

    @classmethod
    def load(cls, path: Path) -> FrameSet:
        """Read what save() wrote.

        Raises:
            EngineError: `engine.bad_frames`: missing, damaged, or no frame set.
        """
        try:
            with safe_open(str(path), framework="numpy") as file:
                found = cls(file.get_tensor("frames"))
                expected = (file.metadata() or {}).get("sha256")
        except (OSError, SafetensorError) as error:
            raise EngineError(
                f"{path} cannot be read as a frame set: {error}",
                code="engine.bad_frames",
                hint="Collect the frames again.",
            ) from error
        if found.sha256 != expected:
            raise EngineError(
                f"{path} is damaged: its pixels do not match its hash",
                code="engine.bad_frames",
                hint="Collect the frames again.",
            )
        return found


def degraded(frames: FrameSet, seed: int) -> FrameSet:
    """One degraded form of every frame, the same for the same seed.

    Each frame is cropped or letterboxed, relit, blurred or made noisy, scaled down and up, and
    recompressed, each with a probability of its own; every frame is recompressed at least.

    Args:
        frames: Clean frames.
        seed: Any integer of 0 and above.
    """
    out = np.empty_like(frames.frames)
    for place, frame in enumerate(frames.frames):
        # A generator a frame: a frame's degradation does not depend on what precedes it.
        out[place] = _degrade(frame, np.random.default_rng([seed, place]))
    return FrameSet(out)


def _degrade(frame: Frame, rng: np.random.Generator) -> Frame:
    size = len(frame)
    image = Image.fromarray(frame)
    framing = rng.random()
    if framing < 0.3:
        image = _crop(image, float(rng.uniform(0.6, 0.95)), rng)
    elif framing < 0.45:
        image = _letterbox(image, float(rng.uniform(0.55, 0.85)), bool(rng.random() < 0.5))
    if rng.random() < 0.5:
        image = _relight(image, rng)
    texture = rng.random()
    if texture < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2.5)) * size / 224))
    elif texture < 0.5:
        noise = rng.normal(0, float(rng.uniform(2, 18)), (size, size, 3))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    if rng.random() < 0.4:
        small = max(8, round(size * float(rng.uniform(0.2, 0.7))))
        down = image.resize((small, small), Image.Resampling.BOX)
        image = down.resize((size, size), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(rng.integers(15, 91)))
    return np.asarray(Image.open(buffer).convert("RGB"))


def _crop(image: Image.Image, part: float, rng: np.random.Generator) -> Image.Image:
    side = round(image.width * part)
    left, top = (int(rng.integers(0, image.width - side + 1)) for _ in range(2))
    crop = image.crop((left, top, left + side, top + side))
    return crop.resize(image.size, Image.Resampling.BICUBIC)


def _letterbox(image: Image.Image, part: float, wide: bool) -> Image.Image:
    short = round(image.width * part)
    inner = (image.width, short) if wide else (short, image.height)
    canvas = Image.new("RGB", image.size)
    offset = (image.width - inner[0]) // 2, (image.height - inner[1]) // 2
    canvas.paste(image.resize(inner, Image.Resampling.BICUBIC), offset)
    return canvas


def _relight(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    gamma, contrast = float(rng.uniform(0.6, 1.6)), float(rng.uniform(0.6, 1.4))
    brightness = float(rng.uniform(-0.15, 0.15))
    unit = (np.asarray(image).astype(np.float64) / 255) ** gamma
    unit = (unit - 0.5) * contrast + 0.5 + brightness
    return Image.fromarray(np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8))
