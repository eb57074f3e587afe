"""Decoding for requests: a bounded number at a time, a bounded number waiting.

Jobs decode here too, in turns of their own: see `deployments.turns`.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from deployments.meters import Meters
from deployments.turns import Turns
from reelsight.errors import Overloaded
from reelsight.media.decoder import Decoder
from reelsight.media.limits import MediaLimits
from reelsight.plan import ClipPlan
from reelsight.steps import ClipRequest, LoadedClip, load_clip

__all__ = ["DecodeLane"]


class DecodeLane:
    """Decodes clips off the event loop. It belongs to one loop.

    Args:
        decoder: Shared by the threads; closed with the lane.
        turns: Clips at a time.
        max_waiting: Clips of requests that may wait beyond those.
        meters: Count.
    """

    def __init__(
        self, decoder: Decoder, turns: Turns, max_waiting: int, meters: Meters | None = None
    ) -> None:
        self._decoder, self._turns, self._max_waiting = decoder, turns, max_waiting
        self._meters = meters or Meters()
        self._threads = ThreadPoolExecutor(turns.width, "decode")
        self._waiting = 0

    @property
    def width(self) -> int:
        """Clips of requests that are decoded at a time."""
        return self._turns.requests

    @property
    def waiting(self) -> int:
        """Clips of requests that wait; jobs are bounded where they are kept."""
        return self._waiting

    @property
    def full(self) -> bool:
        """Whether a clip that comes now is refused."""
        return self._turns.full and self._waiting >= self._max_waiting

    async def load(
        self,
        request: ClipRequest,
        data: bytes,
        plan: ClipPlan,
        deadline: float,
        *,
        background: bool = False,
    ) -> LoadedClip:
        """Decode a clip whose bytes are here; `background` for a job's.

        Raises:
            Overloaded: Too many wait, or the deadline passed before its turn.
            RunError: This machine gives no process to decode in.
        """
        counted = 0 if background else 1
        if counted and self.full:
            raise Overloaded(f"{self._waiting} clips wait to be decoded", code="decode.overloaded")
        self._waiting += counted
        came = time.monotonic()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + _left(deadline)):
                await self._turns.take(background)
        except TimeoutError:
            raise Overloaded(
                "the deadline passed before the clip's turn", code="decode.deadline"
            ) from None
        finally:
            self._waiting -= counted

        if not background:
            self._meters.queued("decode", time.monotonic() - came)

        def read(uri: str, limits: MediaLimits) -> bytes:
            del uri, limits  # The body's cap is the limit.
            return data

        work = asyncio.get_running_loop().run_in_executor(
            self._threads, load_clip, request, plan, self._decoder, read
        )
        # A decode that is under way cannot be called back: who waits may leave, its place is
        # free when it ends.
        work.add_done_callback(lambda _: self._turns.give(background))
        loaded = await asyncio.shield(work)
        self._meters.decoded(loaded.decode_s)
        return loaded

    def close(self) -> None:
        """Wait for what is decoded, and close the decoder."""
        self._threads.shutdown()
        self._decoder.close()


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
