"""Pace: how long a clip that comes now would be under way, by those that came before it.

A queue that is bounded by number alone is seconds deep on a fast machine and minutes deep on a
slow one. So it is bounded by time: what is under way, divided by the rate at which clips have ended
while others waited. The rate forgets, so that it follows the clips that come.

Jobs take turns of their own and are not counted; what they take shows in the rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["Pace"]

_MEMORY_S = 5.0


class Pace:
    """Counts clips under way and how fast they end. It belongs to one event loop.

    Args:
        width: Clips that are worked on at a time; as many again may always wait.
        max_wait_s: Longest that a clip that comes now may be expected to take.
        clock: Seconds.
    """

    def __init__(
        self, width: int, max_wait_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._width, self._max_wait_s, self._clock = width, max_wait_s, clock
        self._under_way = 0
        self._ended = self._seconds = 0.0
        # When the last one ended and left others waiting; None where it left a free place.
        self._since: float | None = None

    @property
    def expected_s(self) -> float:
        """Seconds that a clip that comes now is expected to take; 0 where nothing is known."""
        return (self._under_way + 1) * self._seconds / self._ended if self._ended else 0.0

    @property
    def full(self) -> bool:
        """Whether a clip that comes now would take too long."""
        return self._under_way >= 2 * self._width and self.expected_s > self._max_wait_s

    def enter(self) -> None:
        """A clip has come."""
        self._under_way += 1

    def leave(self) -> None:
        """A clip has ended, in whatever way."""
        now = self._clock()
        if self._since is not None:
            kept = math.exp((self._since - now) / _MEMORY_S)
            self._ended = self._ended * kept + 1
            self._seconds = self._seconds * kept + now - self._since
        self._under_way -= 1
        self._since = now if self._under_way >= self._width else None
