"""OpenTelemetry spans of a request's steps, where its API is installed; where it is not, nothing.

The request's own span, below its caller's traceparent, is FastAPI's.

Without an SDK that the operator sets up none is made: nothing calls out unless asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

try:
    from opentelemetry import trace
except ImportError:  # Not a dependency.
    trace = None  # type: ignore[assignment]

__all__ = ["span"]


def _off() -> bool:
    """Whether nobody has set up where spans go; they cost as much as a log line."""
    return trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def span(name: str) -> Iterator[None]:
    """A span below the one that is open."""
    if _off():
        yield
        return
    with trace.get_tracer("reelsight").start_as_current_span(name):
        yield
