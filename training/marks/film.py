"""An exported pair at work on films: luma in and out of planar video, without torch.

This is what a runtime has to do around both networks, in its plainest form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from reelsight.errors import MediaError

__all__ = ["Box", "Pair", "Yuv", "active_box", "mark_film", "read_film", "squash"]

Yuv = npt.NDArray[np.uint8]
"""Frames of planar YUV 4:2:0, limited range, uint8 [n, height * 3 / 2, width]."""
Box = tuple[int, int, int, int]
"""Top, bottom, left, right of the active picture; bottom and right are exclusive."""
Floats = npt.NDArray[np.float32]

_BLACK = 24
_SCALE = 219 / 255


class Pair:
    """Both networks on ONNX Runtime.

    Args:
        directory: Holds embedder.onnx and extractor.onnx.
        threads: Of each session.
    """

    def __init__(self, directory: Path, threads: int = 2) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._embedder, self._extractor = (
            onnxruntime.InferenceSession(
                str(directory / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for name in ("embedder", "extractor")
        )
        self.size = int(self._extractor.get_inputs()[0].shape[-1])
        self.bits = int(self._embedder.get_inputs()[1].shape[-1])

    def residual(self, luma: npt.NDArray[np.uint8], bits: Floats, strength: float) -> Floats:
        """Residuals [n, size, size] of luma uint8 [n, size, size] for one payload, full range."""
        count = len(luma)
        feed = {
            "luma": luma[:, None],
            "bits": np.broadcast_to(bits, (count, self.bits)).astype(np.float32),
            "strength": np.full(count, strength, np.float32),
        }
        drawn: Floats = self._embedder.run(None, feed)[0][:, 0]
        return drawn

    def read(self, luma: npt.NDArray[np.uint8]) -> tuple[Floats, Floats]:
        """Logits [n, bits] and presence [n] of luma uint8 [n, size, size]."""
        logits, presence = self._extractor.run(None, {"luma": luma[:, None]})
        return logits, presence


def read_film(path: Path, *, first: int, count: int, width: int) -> Yuv:
    """Consecutive frames of a film, scaled to a width.

    Args:
        path: The film.
        first: Index of the first frame.
        count: Frames.
        width: Even; the height follows, even too.

    Raises:
        MediaError: The film has too few frames.
    """
    import av

    frames: list[Any] = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= first:
                height = round(frame.height * width / frame.width / 2) * 2
                scaled = frame.reformat(
                    width, height, format="yuv420p", dst_color_range="MPEG", interpolation="AREA"
                )
                frames.append(scaled.to_ndarray())
            if len(frames) == count:
                return np.stack(frames)
    raise MediaError(f"{path.name} has only {len(frames)} frames from frame {first}.")


def active_box(frames: Yuv) -> Box:
    """The picture inside black bars; the whole one where nothing is lit."""
    height = frames.shape[1] * 2 // 3
    peak = frames[:, :height].max(0)
    # A bar is black but for single bright pixels of noise.
    rows = np.flatnonzero(np.percentile(peak, 90, axis=1) > _BLACK)
    columns = np.flatnonzero(np.percentile(peak, 90, axis=0) > _BLACK)
    if not len(rows) or not len(columns):
        return 0, height, 0, frames.shape[2]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def squash(frames: Yuv, box: Box, size: int) -> npt.NDArray[np.uint8]:
    """Full-range luma of the active picture, uint8 [n, size, size]."""
    top, bottom, left, right = box
    out = np.empty((len(frames), size, size), np.uint8)
    for index, frame in enumerate(frames):
        picture = Image.fromarray(frame[top:bottom, left:right]).convert("F")
        small = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
        out[index] = np.clip((small - 16) / _SCALE + 0.5, 0, 255)
    return out


def mark_film(
    frames: Yuv, pair: Pair, bits: Floats, *, strength: float, keyframe: int = 4
) -> tuple[Yuv, Box]:
    """Write a payload into the luma of every frame.

    Args:
        frames: The film.
        pair: The networks.
        bits: Float32 [bits] of 0 and 1.
        strength: PSNR of the residual, dB.
        keyframe: Frames that share a residual.

    Returns:
        The marked film, and where its active picture is.
    """
    box = active_box(frames)
    top, bottom, left, right = box
    residuals = pair.residual(squash(frames[::keyframe], box, pair.size), bits, strength)
    marked = frames.copy()
    for index in range(len(frames)):
        drawn = Image.fromarray(residuals[index // keyframe])
        wide = np.asarray(drawn.resize((right - left, bottom - top), Image.Resampling.BICUBIC))
        luma = marked[index, top:bottom, left:right]
        luma[:] = np.clip(luma + wide * _SCALE + 0.5, 16, 235)
    return marked, box
