"""Something like an engine: products of a vision tower's size on the GPU, rows to the host.

It stands for the device work beside the decoder and for the way that frames take to it; it embeds
nothing. Sizes are those of ViT-B/32: 49 patches of 32x32, twelve layers of width 768, no attention.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from reelsight.engine.protocol import DevicePixels

__all__ = ["Consumer"]


class Consumer:
    """One for all streams, which take turns.

    Args:
        tiny: Whether on the CPU, with one small layer.
    """

    def __init__(self, tiny: bool) -> None:
        import torch

        self._torch = torch
        self._device = torch.device("cpu" if tiny else "cuda:0")
        kind = torch.float32 if tiny else torch.float16
        width, layers = (16, 1) if tiny else (768, 12)
        self._kind, self._lock = kind, threading.Lock()

        def weights(*shape: int) -> Any:
            return torch.randn(shape, device=self._device, dtype=kind) / shape[0] ** 0.5

        self._patch, self._out = weights(3072, width), weights(width, 512 if not tiny else 8)
        self._layers = [(weights(width, 4 * width), weights(4 * width, width))] * layers
        self._stream: Any = None if tiny else torch.cuda.Stream()

    def take_host(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Rows float32 [n, D] of uint8 [n, 224, 224, 3] in host memory."""
        with self._lock, self._torch.cuda.stream(self._stream):
            frames = self._torch.from_numpy(pixels)
            if self._stream is not None:
                frames = frames.pin_memory().to(self._device, non_blocking=True)
            return self._rows(frames)

    def take_device(self, pixels: DevicePixels) -> npt.NDArray[np.float32]:
        """The same of frames that lie on the device, behind what writes them."""
        with self._lock:
            handle = None if self._stream is None else int(self._stream.cuda_stream)
            frames = self._torch.from_dlpack(pixels.__dlpack__(stream=handle))
            with self._torch.cuda.stream(self._stream):
                return self._rows(frames)

    def _rows(self, frames: Any) -> npt.NDArray[np.float32]:
        n = len(frames)
        x = frames.reshape(n, 7, 32, 7, 32, 3).transpose(2, 3).reshape(n, 49, 3072)
        x = (x.to(self._kind) / 255) @ self._patch
        for up, down in self._layers:
            x = x + self._torch.relu(x @ up) @ down
        rows: npt.NDArray[np.float32] = (x.mean(dim=1) @ self._out).float().cpu().numpy()
        return rows
