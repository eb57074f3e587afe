"""The evidence: a Trace as signed JSON, and as a page that a lawyer can read."""

from reelsight.marks.evidence.document import (
    parse_trace,
    sign_trace,
    trace_document,
    trace_schema,
    trace_signer,
)
from reelsight.marks.evidence.page import trace_page

__all__ = [
    "parse_trace",
    "sign_trace",
    "trace_document",
    "trace_page",
    "trace_schema",
    "trace_signer",
]
