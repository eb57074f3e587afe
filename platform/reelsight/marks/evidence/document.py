"""A Trace as JSON: one spelling, a schema, and a detached signature over its bytes."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError

from reelsight.errors import MarkError
from reelsight.nouns.mark_trace import Trace
from reelsight.signing import sign, signer

__all__ = ["parse_trace", "sign_trace", "trace_document", "trace_schema", "trace_signer"]

FORMAT = "reelsight-trace/1"
_ADAPTER = TypeAdapter(Trace)
# So that a signature over a Trace cannot be shown as one over anything else.
_SIGNED_AS = b"reelsight trace 1\n"


def trace_document(trace: Trace) -> bytes:
    """Canonical JSON: sorted names, UTF-8, a newline at the end.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(asdict(trace), sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False)
    return text.encode() + b"\n"


def parse_trace(document: bytes) -> Trace:
    """A Trace from its document.

    Raises:
        MarkError: `mark.bad_trace`, it is none, or of another version.
    """
    try:
        trace = _ADAPTER.validate_json(document)
    except ValidationError as error:
        # What was given is not repeated: a trace opens codes.
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MarkError(
            f"that is no trace: {where}: {first['msg']}", code="mark.bad_trace"
        ) from None
    if trace.format != FORMAT:
        raise MarkError(f"a trace of format {trace.format!r}", code="mark.bad_trace")
    return trace


def trace_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a document."""
    schema = _ADAPTER.json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": FORMAT, **schema}


def sign_trace(document: bytes, private: bytes) -> bytes:
    """A detached signature of a document, as text.

    Args:
        document: As `trace_document` gave it.
        private: Ed25519 key, PEM.

    Raises:
        ConfigError: That is no such key.
    """
    return sign(_SIGNED_AS + document, private)


def trace_signer(document: bytes, signature: bytes, trusted: tuple[str, ...]) -> str | None:
    """Which trusted key signed a document; None when none did.

    Raises:
        ConfigError: A trusted key is malformed.
    """
    return signer(_SIGNED_AS + document, signature, trusted)
