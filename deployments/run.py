"""Serve on this machine: start it, say where it listens, end it when told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve
from ray.serve.schema import LoggingConfig

from deployments.app import INGRESS, build_app
from deployments.security.listening import pinned_keys, require_keys_beyond_loopback
from reelsight.rayx.cluster import ray_session
from reelsight.settings import Settings

__all__ = ["drain", "serve_until_told", "serving"]

_CALL_S = 10.0


@contextmanager
def serving(settings: Settings, name: str = "reelsight") -> Iterator[str]:
    """The application, answering; gone on the way out.

    Yields:
        Its base URL.

    Raises:
        ConfigError: `config.open_door`: others could reach it without a key.
        ReelsightError: The model, its engine or the bank does not resolve.
    """
    require_keys_beyond_loopback(settings, settings.serve.host)
    settings = pinned_keys(settings)
    app = build_app(settings)
    host, port = settings.serve.host, settings.serve.port
    with ray_session(settings, progress=False):
        # The door writes one line a request; Serve would write two more, in the same stream.
        quiet = LoggingConfig(enable_access_log=False)
        serve.start(http_options={"host": host, "port": port}, logging_config=quiet)
        try:
            serve.run(app, name=name, route_prefix="/", logging_config=quiet)
            yield f"http://{host}:{port}"
        finally:
            serve.shutdown()


def serve_until_told(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; what is under way is finished first."""
    told = threading.Event()
    with serving(settings) as url:
        # Ray sets handlers of its own when it starts, which end the process at once.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: told.set())
        print(f"listening on {url}", flush=True)
        told.wait()
        drain(settings.serve.drain_s)


def drain(timeout_s: float, name: str = "reelsight") -> bool:
    """Close the door of a running application; False where requests were still under way then.

    From here on /readyz says 503 and new requests are refused. What is under way has that long.
    """
    ingress = serve.get_deployment_handle(INGRESS, app_name=name)
    # Tuned for throughput, Serve's handles want an event loop of the caller's; here is none.
    ingress._init(_run_router_in_separate_loop=True)
    told = ingress.broadcast("drain", timeout_s)
    return all(told.results(timeout_s=timeout_s + _CALL_S))
