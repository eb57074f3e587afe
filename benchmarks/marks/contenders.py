"""Who is compared: our pair, and the three methods of invisible-watermark, unmodified.

Of the peers the raw score of each bit is read, before their own threshold, so that pictures can be
pooled as ours are. What is missing is said with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from av import VideoFrame

from benchmarks.marks.attacks import Film, frame_of, from_bgr, picture_of, to_bgr
from engines.runtimes.ort_marks import open_pair
from reelsight.copies.marker import Marker
from reelsight.copies.texture import texture
from reelsight.copies.views import PLAIN, SEARCH, seen_through
from reelsight.engine.protocol import Engine
from reelsight.media.active_scaler import ActiveScaler, Boxes, PeakKeeper
from reelsight.media.luma import plane_of
from reelsight.media.orientation import UPRIGHT
from reelsight.nouns.engine_spec import Geometry

__all__ = ["PEERS", "Contender", "Ours", "Peer", "Reading", "contenders"]

Bits = npt.NDArray[np.float32]
PEERS = ("dwtDct", "dwtDctSvd", "rivaGan")


@dataclass(frozen=True)
class Reading:
    """What was read of one view.

    Attributes:
        soft: float32 [frames, bits], above 0 for 1.
        quality: float32 [frames], weight of each frame.
    """

    soft: Bits
    quality: Bits


class Contender(Protocol):
    """Writes bits into films and reads them."""

    @property
    def name(self) -> str:
        """As it stands in the table."""

    @property
    def bits(self) -> int:
        """Length of its payload."""

    def prepare(self, film: Film) -> Any:
        """A film in the form that it takes; not on its clock."""

    def embed(self, prepared: Any, code: Bits) -> Any:
        """Mark what was prepared."""

    def finish(self, marked: Any) -> Film:
        """Planar pictures of what `embed` gave; not on its clock."""

    def shown(self, marked: Any) -> list[npt.NDArray[np.uint8]]:
        """BGR pictures of what `embed` gave, as it gave them."""

    def read(self, prepared: Any) -> list[Reading]:
        """One reading for each view that is counted; the first is of the film as it is."""


class Ours:
    """A pair, as `mark embed` and `mark trace` run it.

    Args:
        directory: Of the pair.
        strength_db: PSNR of the mark.
        reader: Another engine of the same extractor; the pair's own file when None.
        name: As it stands in the table.
    """

    def __init__(
        self,
        directory: Path,
        strength_db: float,
        reader: Engine | None = None,
        name: str = "reelsight",
    ) -> None:
        opened = open_pair(directory, buckets=(1, 2, 4, 8), threads=1)
        self.writer, self._reader = opened.writer, reader or opened.reader
        self._strength_db, self.name, self.bits = strength_db, name, opened.writer.bits
        self._geometry = Geometry(opened.writer.size, "active")

    def prepare(self, film: Film) -> list[VideoFrame]:
        return [frame_of(picture) for picture in film]

    def embed(self, prepared: list[VideoFrame], code: Bits) -> list[VideoFrame]:
        peaks = PeakKeeper(self._geometry)
        for frame in prepared:
            peaks.see(np.asarray(plane_of(frame), np.uint8))
        marker = Marker(self.writer, lambda at_s: code, self._strength_db, peaks.boxes())
        for frame in prepared:
            marker.mark(frame, 0.0)
        return prepared

    def finish(self, marked: list[VideoFrame]) -> Film:
        return [picture_of(frame) for frame in marked]

    def shown(self, marked: list[VideoFrame]) -> list[npt.NDArray[np.uint8]]:
        return to_bgr(self.finish(marked))

    def read(self, prepared: list[VideoFrame], *, search: bool = True) -> list[Reading]:
        peaks = PeakKeeper(self._geometry)
        for frame in prepared:
            peaks.see(np.asarray(plane_of(frame), np.uint8))
        boxes: Boxes = peaks.boxes()
        scaler = ActiveScaler(self._geometry, boxes)
        luma = np.stack([scaler.squashed(frame, UPRIGHT) for frame in prepared])
        quality = texture(luma)
        views = SEARCH if search else PLAIN[:1]
        return [Reading(self.rows(seen_through(view, luma))[:, :-1], quality) for view in views]

    def rows(self, luma: npt.NDArray[np.uint8]) -> Bits:
        """float32 [n, bits + 1] of uint8 [n, S, S]."""
        buckets, out, at = self._reader.spec.buckets, [], 0
        pixels = np.repeat(luma[..., None], 3, axis=-1)
        while at < len(pixels):
            size = max(b for b in buckets if b <= len(pixels) - at)
            out.append(self._reader.run(np.ascontiguousarray(pixels[at : at + size])))
            at += size
        return np.concatenate(out)


class Peer:
    """One method of invisible-watermark.

    Args:
        method: Of PEERS.

    Raises:
        SystemExit: The package is not there or does not load.
    """

    bits = 32

    def __init__(self, method: str) -> None:
        self.name = method
        try:
            self._library = import_module("imwatermark")
            self._scores = _scores_of(method)
            if method == "rivaGan":
                self._library.WatermarkEncoder.loadModel()
        except Exception as error:  # Boundary: a package of others, and its native libraries.
            raise SystemExit(f"invisible-watermark does not load: {error!r}") from error

    def prepare(self, film: Film) -> list[npt.NDArray[np.uint8]]:
        return to_bgr(film)

    def embed(
        self, prepared: list[npt.NDArray[np.uint8]], code: Bits
    ) -> list[npt.NDArray[np.uint8]]:
        encoder = self._library.WatermarkEncoder()
        encoder.set_by_bits([int(bit) for bit in code])
        return [encoder.encode(picture, self.name) for picture in prepared]

    def finish(self, marked: list[npt.NDArray[np.uint8]]) -> Film:
        return from_bgr(marked)

    def shown(self, marked: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        return marked

    def read(self, prepared: list[npt.NDArray[np.uint8]]) -> list[Reading]:
        soft = np.stack([self._scores(picture) for picture in prepared]).astype(np.float32)
        return [Reading(soft, np.ones(len(soft), np.float32))]


def _scores_of(method: str) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float64]]:
    """What a method's own `decode` computes before it compares with its threshold, less that."""
    if method == "rivaGan":
        return partial(_rivagan, import_module("imwatermark.rivaGan").RivaWatermark)
    module = {"dwtDct": "maxDct", "dwtDctSvd": "dwtDctSvd"}[method]
    kind = {"dwtDct": "EmbedMaxDct", "dwtDctSvd": "EmbedDwtDctSvd"}[method]
    found = import_module(f"imwatermark.{module}")
    return partial(_wavelets, found, getattr(found, kind)(wmLen=Peer.bits))


def _wavelets(module: Any, method: Any, bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    rows, columns = bgr.shape[0] // 4 * 4, bgr.shape[1] // 4 * 4
    yuv = module.cv2.cvtColor(bgr, module.cv2.COLOR_BGR2YUV)
    scores: list[list[float]] = [[] for _ in range(Peer.bits)]
    for channel in range(2):
        if method._scales[channel] > 0:
            low, _ = module.pywt.dwt2(yuv[:rows, :columns, channel], "haar")
            scores = method.decode_frame(low, method._scales[channel], scores)
    return np.array([np.mean(each) for each in scores]) - 0.5


def _rivagan(kind: Any, bgr: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    frame = (bgr.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None, :, None]
    return np.asarray(kind.decoder.run(None, {"frame": frame})[0][0], np.float64) - 0.52


def contenders(
    pair: Path, strength_db: float, peers: Sequence[str]
) -> tuple[list[Contender], dict[str, str]]:
    """Those that are there, ours first, and why the others are not."""
    found: list[Contender] = [Ours(pair, strength_db)]
    missing: dict[str, str] = {}
    for name in peers:
        try:
            found.append(Peer(name))
        except SystemExit as error:
            missing[name] = str(error)
    return found, missing
