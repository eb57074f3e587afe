"""Serve on this machine: start it, say where it listens, end it when told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve

from deployments.app import build_app
from reelsight.rayx.cluster import ray_session
from reelsight.settings import Settings

__all__ = ["serve_until_told", "serving"]


@contextmanager
def serving(settings: Settings, name: str = "reelsight") -> Iterator[str]:
    """The application, answering; gone on the way out.

    Yields:
        Its base URL.

    Raises:
        ReelsightError: The model, its engine or the bank does not resolve.
    """
    app = build_app(settings)
    host, port = settings.serve.host, settings.serve.port
    with ray_session(settings, progress=False):
        serve.start(http_options={"host": host, "port": port})
        try:
            serve.run(app, name=name, route_prefix="/")
            yield f"http://{host}:{port}"
        finally:
            serve.shutdown()


def serve_until_told(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; what is under way is finished first."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    with serving(settings) as url:
        print(f"listening on {url}", flush=True)
        told.wait()
