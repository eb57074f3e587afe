"""A bell between the tasks of one event loop: something has changed, look again."""

from __future__ import annotations

import asyncio
from contextlib import suppress

__all__ = ["Bell"]


class Bell:
    """Rings for everybody who waits. Another process's changes do not ring it."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def ring(self) -> None:
        """Wake who waits."""
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    def next(self) -> asyncio.Event:
        """The next ring. Ask for it before looking, so that no ring falls between."""
        return self._next

    @staticmethod
    async def heard(ring: asyncio.Event, at_most_s: float) -> None:
        """Wait for a ring, or for so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await ring.wait()
