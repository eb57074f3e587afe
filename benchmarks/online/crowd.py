"""Several clients at a time, so that one process of them is never what is measured.

Each is a process with its share of the connections; they are let go together, once all of them have
read what they send.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.online.client import Order, Outcome, start, what_came

__all__ = ["crowd", "shares"]


def shares(connections: int, processes: int) -> list[int]:
    """Connections of each process, as even as can be; no process is without one."""
    used = max(1, min(connections, processes))
    return [connections // used + (k < connections % used) for k in range(used)]


def crowd(order: Order, processes: int) -> dict[str, Any]:
    """An order in closed loop, spread over processes.

    Args:
        order: Its concurrency is that of all together.
        processes: At most.

    Returns:
        As `what_came`: times count from the first process's beginning, `cpu_s` is of all. Besides
        `processes`, and `busiest`, the largest share of a core that one of them took.

    Raises:
        SystemExit: One ended by a fault of its own.
    """
    parts = [
        start(replace(order, concurrency=share, held=True))
        for share in shares(order.concurrency, processes)
    ]
    try:
        for part in parts:
            assert part.stdout is not None
            # Says that it is ready; nothing where it has ended, which what_came tells.
            part.stdout.readline()
        for part in parts:
            assert part.stdin is not None
            part.stdin.write("\n")
            part.stdin.flush()
        told = [what_came(part) for part in parts]
    finally:
        for part in parts:
            part.kill()
            part.wait()
    began_at = min(one["began_at"] for one in told)
    outcomes: list[Outcome] = []
    for one in told:
        for outcome in one["outcomes"]:
            outcome.at += one["began_at"] - began_at
            outcomes.append(outcome)
    return {
        "outcomes": outcomes,
        "unsent": sum(one["unsent"] for one in told),
        "began_at": began_at,
        "span_s": max((one.at + one.took for one in outcomes), default=0.0),
        "cpu_s": sum(one["cpu_s"] for one in told),
        "processes": len(parts),
        "busiest": max(one["cpu_s"] / max(one["span_s"], 1e-9) for one in told),
    }
