"""OpenTelemetry spans, where its API is installed; where it is not, nothing.

Without an SDK that the operator sets up none is made: nothing calls out unless asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from starlette.types import Scope

try:
    from opentelemetry import propagate, trace
except ImportError:  # Not a dependency.
    trace = propagate = None  # type: ignore[assignment]

__all__ = ["Span", "request_span", "span"]

_NAMED = frozenset({b"traceparent", b"tracestate", b"baggage"})


class Span(Protocol):
    """The part of a span that is used here."""

    def set_attribute(self, key: str, value: Any, /) -> None:
        """Say something about what the span covers."""


class _NoSpan:
    def set_attribute(self, key: str, value: Any, /) -> None:
        """Nobody listens."""


def _off() -> bool:
    """Whether nobody has set up where spans go; they cost as much as a log line."""
    return trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def span(name: str) -> Iterator[Span]:
    """A span below the one that is open."""
    if _off():
        yield _NoSpan()
        return
    with trace.get_tracer("reelsight").start_as_current_span(name) as opened:
        yield opened


@contextmanager
def request_span(scope: Scope) -> Iterator[Span]:
    """The span of a request, below the caller's own where its headers name one (traceparent)."""
    if _off():
        yield _NoSpan()
        return
    given = [(key, value) for key, value in scope["headers"] if key in _NAMED]
    headers = {key.decode(): value.decode("latin-1") for key, value in given}
    with trace.get_tracer("reelsight").start_as_current_span(
        scope["method"],
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
    ) as opened:
        yield opened
