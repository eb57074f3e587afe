"""A number of clients, each of which asks again as soon as it is answered: what a server can do."""

from __future__ import annotations

from typing import Any

from benchmarks.online.client import Order, ask
from benchmarks.online.figures import summary
from benchmarks.online.servers import Tree

__all__ = ["capacity_of", "closed_loop", "warm"]

_CLIENTS = 8
_WARM_S, _WARM_CLIENTS = 2.0, 4


def warm(tree: Tree, files: list[str]) -> None:
    """Upload for a moment: first requests pay for what is made once."""
    ask(Order(tree.port, tree.server.tags, files, _WARM_S, _WARM_CLIENTS))


def closed_loop(tree: Tree, files: list[str], seconds: float, clients: int) -> dict[str, Any]:
    """What so many clients get answered for a while, and what it costs: `figures.summary`.

    Args:
        tree: The server.
        files: Uploaded in turn; none for the health route.
        seconds: For which requests are begun.
        clients: Requests at a time.
    """
    path = tree.server.tags if files else tree.server.health
    before = tree.cpu_s
    told = ask(Order(tree.port, path, files, seconds, clients))
    return summary(told, tree.cpu_s - before)


def capacity_of(tree: Tree, files: list[str], seconds: float) -> dict[str, Any]:
    """What a server that has just started answers to 8 clients, once it is warm."""
    warm(tree, files)
    return closed_loop(tree, files, seconds, _CLIENTS)
