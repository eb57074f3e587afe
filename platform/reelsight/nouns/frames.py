"""Frames: the sampled pictures of one clip, with their times and how they were chosen.

Knows nothing of files or decoders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "Frames"]


class Frame(NamedTuple):
    """One sampled picture.

    Attributes:
        pixels: uint8 [H, W, 3] RGB.
        pts: Seconds since the clip's first displayed frame.
        weight: Seconds of display that it stands for.
    """

    pixels: npt.NDArray[np.uint8]
    pts: float
    weight: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frames:
    """Pictures of one clip in display order, at most one for each time asked for.

    The clock: t = 0 is the moment the clip's first displayed frame appears, whatever the
    container's own time stamps begin at.

    Attributes:
        clip_id: The clip that they belong to.
        pixels: uint8 [N, H, W, 3] RGB, C-contiguous.
        pts: float64 [N] seconds, strictly ascending, >= 0: when each picture came on display.
        end_s: Seconds: where the clip ends on that clock; for a partial decode, where it broke off.
        policy: How times were chosen, such as `rate:1` or `count:8`.
        asked: Number of times asked for. Times that fall on one picture return it once, so
            `returned` may be smaller without anything having been lost.
        max_error_s: Largest distance in seconds between a time asked for and the pts of the picture
            returned for it.
        stopped: None when decoding went as far as was asked; else the decoder's message.
        starts: float64 [N] seconds, ascending: where the stretch that each picture stands for
            begins; it ends where the next begins, the last at end_s. The pts when not given.

    Raises:
        ValueError: Shapes, dtypes or times do not fit together.
    """

    clip_id: str
    pixels: npt.NDArray[np.uint8]
    pts: npt.NDArray[np.float64]
    end_s: float
    policy: str
    asked: int
    max_error_s: float = 0.0
    stopped: str | None = None
    starts: npt.NDArray[np.float64] = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.starts is None:
            object.__setattr__(self, "starts", self.pts)
        pixels, pts = self.pixels, self.pts
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 3:
            raise ValueError(f"pixels must be uint8 [N, H, W, 3], got {_shape(pixels)}")
        if not pixels.flags.c_contiguous:
            raise ValueError(f"pixels must be C-contiguous, got strides {pixels.strides}")
        if pts.dtype != np.float64 or pts.shape != pixels.shape[:1]:
            raise ValueError(f"pts must be float64 [{len(pixels)}], got {_shape(pts)}")
        if not np.isfinite(pts).all() or (pts < 0).any() or (np.diff(pts) <= 0).any():
            raise ValueError(f"pts must be finite, >= 0 and strictly ascending, got {pts.tolist()}")
        if not self.end_s >= (pts[-1] if len(pts) else 0.0):
            raise ValueError(f"end_s must not lie before the last pts, got {self.end_s!r}")
        if self.starts.shape != pts.shape or (np.diff(self.starts) < 0).any():
            raise ValueError(f"starts must be ascending, one a picture, got {self.starts.tolist()}")
        if self.asked < len(pts):
            raise ValueError(f"asked must be >= the {len(pts)} frames given, got {self.asked!r}")

    @property
    def returned(self) -> int:
        """Number of distinct pictures."""
        return len(self.pts)

    @property
    def partial(self) -> bool:
        """Whether decoding stopped before the last time asked for."""
        return self.stopped is not None

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """float64 [N] seconds that each picture stands for."""
        return np.diff(self.starts, append=self.end_s)

    def __len__(self) -> int:
        return len(self.pts)

    @overload
    def __getitem__(self, key: int) -> Frame: ...
    @overload
    def __getitem__(self, key: slice) -> Frames: ...
    def __getitem__(self, key: int | slice) -> Frame | Frames:
        if not isinstance(key, slice):
            index = range(len(self))[key]
            return Frame(self.pixels[index], float(self.pts[index]), float(self.weights[index]))
        chosen = range(len(self))[key]
        if chosen.step < 0:
            raise ValueError(f"frames run forwards only, got step {chosen.step}")
        after = chosen[-1] + chosen.step if chosen else chosen.start
        end_s = float(self.starts[after]) if after < len(self) else self.end_s
        pixels = np.ascontiguousarray(self.pixels[key])
        return replace(
            self,
            pixels=pixels,
            pts=self.pts[key].copy(),
            starts=self.starts[key].copy(),
            end_s=end_s,
            asked=len(chosen),
        )

    def __iter__(self) -> Iterator[Frame]:
        return (
            Frame(pixels, float(pts), float(weight))
            for pixels, pts, weight in zip(self.pixels, self.pts, self.weights, strict=True)
        )

    def __repr__(self) -> str:
        span = f"{self.pts[0]:.3f}..{self.pts[-1]:.3f} s" if len(self) else "none"
        tail = f", stopped={self.stopped!r}" if self.partial else ""
        return (
            f"Frames({self.clip_id!r}, pixels={_shape(self.pixels)}, pts={span}, "
            f"end={self.end_s:.3f} s, {self.policy}, {self.returned}/{self.asked}{tail})"
        )


def _shape(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype}{list(array.shape)}"
