"""Serve on this machine: start it, say where it listens, end it when told."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray import serve
from ray.serve.config import ProxyLocation
from ray.serve.schema import LoggingConfig

from deployments.app import INGRESS, build_app
from deployments.own_port import bound
from deployments.security.listening import pinned_keys, require_keys_beyond_loopback
from reelsight.rayx.cluster import ray_session
from reelsight.settings import Settings

__all__ = ["drain", "serve_until_told", "serving"]

_CALL_S = 10.0
# Each of them changes who listens, in processes that Ray starts.
_SERVE_LISTENS = (
    "RAY_SERVE_ENABLE_HA_PROXY",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED",
)


@contextmanager
def serving(settings: Settings, name: str = "reelsight") -> Iterator[str]:
    """The application, answering; gone on the way out.

    Yields:
        Its base URL.

    Raises:
        ConfigError: `config.open_door`: others could reach it without a key; `config.port_taken`.
        ReelsightError: The model, its engine or the bank does not resolve.
    """
    require_keys_beyond_loopback(settings, settings.serve.host)
    settings = pinned_keys(settings)
    host, port = settings.serve.host, settings.serve.port
    own_port = not _behind_a_proxy(settings)
    if own_port:
        bound(host, port).close()
    app = build_app(settings, own_port=own_port)
    # Somebody waits for what is done here, as for any other server.
    with ray_session(settings, niceness=0):
        # The door writes one line a request; Serve would write two more, in the same stream.
        quiet = LoggingConfig(enable_access_log=False)
        where = ProxyLocation.Disabled if own_port else ProxyLocation.HeadOnly
        options = {"host": host, "port": port}
        serve.start(proxy_location=where, http_options=options, logging_config=quiet)
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


def _behind_a_proxy(settings: Settings) -> bool:
    """Whether Serve listens: the replica may be elsewhere, or Serve was told how to."""
    elsewhere = settings.ray.address or os.environ.get("RAY_ADDRESS")
    return bool(elsewhere) or any(os.environ.get(name) == "1" for name in _SERVE_LISTENS)
