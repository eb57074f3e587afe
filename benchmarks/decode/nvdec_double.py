"""A double of the module PyNvVideoCodec, on PyAV and host memory, by its documented calls.

It keeps the rules that the real one has: surfaces are NV12, or P016 for ten bits, and every call
overwrites what the call before gave out; a container without a table of samples is refused; so is
a picture number that does not exist. It shows the order of calls and nothing about a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av import VideoFrame

__all__ = ["Library", "Session", "surface_of"]

_POISON = 0xA5


class Library:
    """The module, as far as it is used.

    Attributes:
        created, reconfigured: Sessions made, and clips that they were pointed at after the first.
        failing: Whether decoding raises.
        miscounted: How many pictures too many are counted.
        shift: How far the pictures given lie from those asked for.
        withheld: How many of the pictures asked for are not given.
        cut: Rows that each surface lacks.
        options: Of the session made last.
    """

    OutputColorType = SimpleNamespace(NATIVE=0, RGB=1, RGBP=2)

    def __init__(self) -> None:
        self.created = self.reconfigured = self.miscounted = self.shift = self.withheld = 0
        self.cut = 0
        self.failing = False
        self.options: dict[str, Any] = {}

    def SimpleDecoder(self, path: str, **options: Any) -> Session:  # noqa: N802
        """Open a clip."""
        if options["output_color_type"] != self.OutputColorType.NATIVE:
            raise ValueError("the double gives native surfaces only")
        self.created += 1
        self.options = options
        return Session(self, path)


class Session:
    """A SimpleDecoder."""

    def __init__(self, library: Library, path: str) -> None:
        self._library = library
        self._given: list[npt.NDArray[Any]] = []
        self._surfaces: list[npt.NDArray[Any]] = []
        self._open(path)

    def __len__(self) -> int:
        return len(self._surfaces) + self._library.miscounted

    def reconfigure_decoder(self, path: str) -> None:
        """Point at another clip."""
        self._library.reconfigured += 1
        self._open(path)

    def get_batch_frames_by_index(self, numbers: list[int]) -> list[npt.NDArray[Any]]:
        """Surfaces that are good until the next call."""
        if self._library.failing:
            raise Exception("HandlePictureDecode failed")
        self._spoil()
        asked = numbers[: len(numbers) - self._library.withheld]
        rows = slice(None, -self._library.cut or None)
        self._given = [self._surfaces[k + self._library.shift][rows].copy() for k in asked]
        return self._given

    def _open(self, path: str) -> None:
        self._spoil()
        with av.open(path) as container:
            if not container.streams.video[0].frames:
                raise Exception("Elementary streams not supported by Simple Decoder.")
            self._surfaces = [surface_of(frame) for frame in container.decode(video=0)]

    def _spoil(self) -> None:
        for surface in self._given:
            surface.fill(_POISON)
        self._given = []


def surface_of(frame: VideoFrame) -> npt.NDArray[Any]:
    """A 4:2:0 picture as NVDEC lays it out: uint8 or uint16 [H + H / 2, W], rounded up."""
    deep = frame.format.name.endswith("10le")
    kind = np.uint16 if deep else np.uint8
    luma, *pair = (
        np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    )
    chroma = np.stack(pair, axis=-1).reshape(pair[0].shape[0], -1)
    surface = np.zeros((len(luma) + len(chroma), chroma.shape[1]), kind)
    surface[: len(luma), : luma.shape[1]] = luma
    surface[len(luma) :] = chroma
    return surface << 6 if deep else surface
