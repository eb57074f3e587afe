"""Decoding for requests: a bounded number at a time, a bounded number waiting."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from deployments.meters import Meters
from reelsight.errors import Overloaded
from reelsight.media.decoder import Decoder
from reelsight.media.limits import MediaLimits
from reelsight.plan import TaggingPlan
from reelsight.steps import ClipRequest, LoadedClip, load_clip

__all__ = ["DecodeLane"]


class DecodeLane:
    """Decodes clips off the event loop. It belongs to one loop.

    Args:
        decoder: Shared by the threads; closed with the lane.
        width: Clips at a time.
        max_waiting: Clips that may wait beyond those.
        meters: Count.
    """

    def __init__(
        self, decoder: Decoder, width: int, max_waiting: int, meters: Meters | None = None
    ) -> None:
        self._decoder, self._max_waiting = decoder, max_waiting
        self.width, self._meters = width, meters or Meters()
        self._threads = ThreadPoolExecutor(width, "decode")
        self._room = asyncio.Semaphore(width)
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Clips that wait."""
        return self._waiting

    async def load(
        self, request: ClipRequest, data: bytes, plan: TaggingPlan, deadline: float
    ) -> LoadedClip:
        """Decode a clip whose bytes are here.

        Raises:
            Overloaded: Too many wait, or the deadline passed before its turn.
            RunError: This machine gives no process to decode in.
        """
        if self._room.locked() and self._waiting >= self._max_waiting:
            raise Overloaded(f"{self._waiting} clips wait to be decoded", code="decode.overloaded")
        self._waiting += 1
        came = time.monotonic()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + _left(deadline)):
                await self._room.acquire()
        except TimeoutError:
            raise Overloaded(
                "the deadline passed before the clip's turn", code="decode.deadline"
            ) from None
        finally:
            self._waiting -= 1

        self._meters.queued("decode", time.monotonic() - came)

        def read(uri: str, limits: MediaLimits) -> bytes:
            del uri, limits  # The body's cap is the limit.
            return data

        work = asyncio.get_running_loop().run_in_executor(
            self._threads, load_clip, request, plan, self._decoder, read
        )
        # A decode that is under way cannot be called back: who waits may leave, its place is
        # free when it ends.
        work.add_done_callback(lambda _: self._room.release())
        loaded = await asyncio.shield(work)
        self._meters.decoded(loaded.decode_s)
        return loaded

    def close(self) -> None:
        """Wait for what is decoded, and close the decoder."""
        self._threads.shutdown()
        self._decoder.close()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
