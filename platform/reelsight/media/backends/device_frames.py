"""DeviceFrames: sampled pictures that lie on a GPU, and the stream that made them.

The library loads without torch; this module does not, and is imported by who has a GPU alone.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from reelsight.media.backends.indexed import Chosen
from reelsight.nouns.frames import Frames

__all__ = ["DeviceFrames", "DeviceQueue", "DeviceTensor"]


class DeviceQueue:
    """A device and the stream in which a decoder and a scaler work on it, one after the other.

    Args:
        device: torch's name, such as `cuda:0`. On `cpu` there is no stream: work is done at once.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self._stream: Any = None
        if self.device.type == "cuda":
            self._stream = torch.cuda.Stream(self.device)

    @property
    def handle(self) -> int:
        """The CUstream for libraries that enqueue by themselves; 0 where there is none."""
        return 0 if self._stream is None else int(self._stream.cuda_stream)

    def current(self) -> AbstractContextManager[Any]:
        """Let torch enqueue into the stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def mark(self) -> Any:
        """An event behind everything enqueued so far; None where work is done at once."""
        if self._stream is None:
            return None
        # A waiting thread sleeps: there are more sessions than cores.
        event = torch.cuda.Event(blocking=True)
        event.record(self._stream)
        return event


class DeviceTensor:
    """A DLPack producer whose content may still be being written; a DevicePixels.

    Args:
        tensor: Any.
        ready: Recorded behind what writes it; None when it was written.
    """

    def __init__(self, tensor: torch.Tensor, ready: Any = None) -> None:
        self.tensor = tensor
        self._ready = ready

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    def __dlpack_device__(self) -> tuple[int, int]:
        kind, index = self.tensor.__dlpack_device__()
        return int(kind), int(index)

    def __dlpack__(self, *, stream: int | None = None, **wanted: Any) -> Any:
        """A capsule whose content is right for whoever reads it in `stream`.

        Args:
            stream: The consumer's, as DLPack counts them: None or 1 for the default one, -1 for a
                consumer that orders by itself.
            wanted: What else torch's tensors take.
        """
        if self._ready is None:
            return self.tensor.__dlpack__(stream=stream, **wanted)
        with torch.cuda.device(self.tensor.device):
            if stream in (None, 1):
                torch.cuda.default_stream().wait_event(self._ready)
            elif stream != -1:
                torch.cuda.ExternalStream(stream).wait_event(self._ready)
            return self.tensor.__dlpack__(stream=-1, **wanted)

    def host(self) -> npt.NDArray[np.uint8]:
        """A copy in host memory, whole when this returns."""
        if self._ready is not None:
            self._ready.synchronize()
        copy: npt.NDArray[np.uint8] = self.tensor.cpu().numpy()
        return copy


@dataclass(frozen=True, slots=True, eq=False)
class DeviceFrames:
    """Frames whose pixels did not leave the GPU.

    Attributes:
        clip_id: The clip that they belong to.
        pixels: uint8 [N, S, S, 3] RGB, contiguous.
        chosen: Their times, and how they were chosen.

    Raises:
        ValueError: There are as many pictures as times in one of the two only.
    """

    clip_id: str
    pixels: DeviceTensor
    chosen: Chosen

    def __post_init__(self) -> None:
        if len(self.chosen.pts) != self.pixels.shape[0]:
            raise ValueError(f"{self.pixels.shape[0]} pictures have {len(self.chosen.pts)} times")

    def __len__(self) -> int:
        return len(self.chosen.pts)

    def to_host(self) -> Frames:
        """The same as Frames: the one copy that crosses to the host."""
        return self.chosen.frames(self.clip_id, self.pixels.host())
