"""Turns: who may decode next. Requests go before jobs, and jobs never hold every place.

A decode cannot be called back once it has begun, and a job's may take minutes: what keeps requests
from starving is that one place at least is never a job's.
"""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Turns"]


class Turns:
    """Places for clips that are decoded at the same time. It belongs to one event loop.

    Args:
        width: Places.
        requests: Places that requests may hold together.
        jobs: Places that jobs may hold together, fewer than `width`.
    """

    def __init__(self, width: int, requests: int, jobs: int) -> None:
        if not (0 < requests <= width and 0 < jobs < width):
            raise ValueError(f"{requests} places for requests and {jobs} for jobs, of {width}")
        self.width, self.requests = width, requests
        self._free = width
        # By whether they are for jobs.
        self._room = {False: requests, True: jobs}
        self._lines: dict[bool, deque[asyncio.Future[None]]] = {False: deque(), True: deque()}

    @classmethod
    def shared(cls, width: int, share: float) -> Turns:
        """Places of which jobs may hold a share.

        Args:
            width: Places, for requests all of them. Where there is but one, jobs get another beside
                it: the operating system shares the core between the two.
            share: 0..1; at least one place and at most all but one come of it.
        """
        if width == 1:
            return cls(2, 1, 1)
        return cls(width, width, min(max(1, int(width * share)), width - 1))

    @property
    def jobs(self) -> int:
        """Places that jobs could take if nobody else came."""
        return self._room[True]

    @property
    def full(self) -> bool:
        """Whether a request would have to wait."""
        return not self._next(False)

    async def take(self, job: bool) -> None:
        """Wait for a place; give it back with `give`."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._lines[job]
        line.append(mine)
        self._call()
        try:
            await mine
        except asyncio.CancelledError:
            if mine.cancelled():
                line.remove(mine)
            else:
                self.give(job)  # It was called in the moment in which it left.
            raise

    def give(self, job: bool) -> None:
        """Give a place back."""
        self._free += 1
        self._room[job] += 1
        self._call()

    def _next(self, job: bool) -> bool:
        return self._free > 0 and self._room[job] > 0

    def _call(self) -> None:
        for job in (False, True):
            for mine in self._lines[job].copy():
                if not self._next(job):
                    break
                if not mine.done():
                    self._free -= 1
                    self._room[job] -= 1
                    self._lines[job].remove(mine)
                    mine.set_result(None)
