"""How long something takes: the same two clocks for every contender.

A caller's function waits for the device before it returns; nothing here knows of devices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["timed", "timed_each"]

# A first guess is taken from a short run, which is dominated by its own start and end.
_GROWTH = 10


def timed(run: Callable[[int], None], seconds: float) -> tuple[int, float]:
    """Run something back to back for at least some seconds.

    Args:
        run: Given a number, does it that many times and waits for the last one.
        seconds: How long the counted stretch takes at least.

    Returns:
        How many times it ran in the counted stretch, and the stretch's seconds: the last call of
        `run`, whole.
    """
    times = 1
    while True:
        started = time.perf_counter()
        run(times)
        took = time.perf_counter() - started
        if took >= seconds:
            return times, took
        wanted = math.ceil(times * 1.1 * seconds / max(took, 1e-9))
        times = max(times + 1, min(wanted, _GROWTH * times))


def timed_each(run: Callable[[], object], runs: int) -> list[float]:
    """Milliseconds of every one of `runs` calls, after a tenth of them uncounted."""
    found = []
    for i in range(-(runs // 10) - 1, runs):
        started = time.perf_counter()
        run()
        if i >= 0:
            found.append(1000 * (time.perf_counter() - started))
    return found
