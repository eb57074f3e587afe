"""OpenTelemetry spans, where its API is installed; where it is not, nothing.

Without an SDK and an exporter that the operator sets up, a span costs a few microseconds and goes
nowhere: nothing calls out unless asked.
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


class Span(Protocol):
    """The part of a span that is used here."""

    def set_attribute(self, key: str, value: Any, /) -> None:
        """Say something about what the span covers."""


class _NoSpan:
    def set_attribute(self, key: str, value: Any, /) -> None:
        """Nobody listens."""


@contextmanager
def span(name: str) -> Iterator[Span]:
    """A span below the one that is open."""
    if trace is None:
        yield _NoSpan()
        return
    with trace.get_tracer("reelsight").start_as_current_span(name) as opened:
        yield opened


@contextmanager
def request_span(scope: Scope) -> Iterator[Span]:
    """The span of a request, below the caller's own where its headers name one (traceparent)."""
    if trace is None:
        yield _NoSpan()
        return
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
    with trace.get_tracer("reelsight").start_as_current_span(
        f"{scope['method']} {scope['path'][:64]}",
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
    ) as opened:
        yield opened
