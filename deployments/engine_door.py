"""The way to an engine, wherever it runs: in this process or in replicas of its own."""

from __future__ import annotations

import asyncio
from typing import Protocol

import numpy as np
import numpy.typing as npt

from reelsight.engine.host import EngineHost

__all__ = ["Embeddings", "EngineDoor", "HostDoor", "Pixels"]

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]


class EngineDoor(Protocol):
    """Embeds frames of many requests at a time."""

    async def embed(self, pixels: Pixels, *, deadline: float | None) -> Embeddings:
        """Embed frames.

        Args:
            pixels: uint8 [N, S, S, 3] RGB, N >= 1.
            deadline: time.monotonic() after which they are not worth it any more.

        Returns:
            float32 [N, D], L2-normalised.

        Raises:
            EngineInputError: The engine cannot take these frames.
            Overloaded: Too many wait, or the deadline passed.
            EngineError: The engine is broken.
        """

    async def stalled_s(self) -> float:
        """Seconds for which the engine has had work and finished none of it."""


class HostDoor:
    """An engine in this process.

    Args:
        host: Closed by its owner.
    """

    def __init__(self, host: EngineHost) -> None:
        self._host = host

    async def embed(self, pixels: Pixels, *, deadline: float | None) -> Embeddings:
        # Who waits no longer cancels, and the host drops what it has not begun.
        return await asyncio.wrap_future(self._host.submit(pixels, timeout=0, deadline=deadline))

    async def stalled_s(self) -> float:
        return self._host.stalled_s
