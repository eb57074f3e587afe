"""Which scope a route asks for. What is not listed asks for `admin`: a new route is shut."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["ANY_KEY", "PUBLIC", "add_keys", "needed_scope"]

PUBLIC = "public"
ANY_KEY = "any"

# The name of a model may hold slashes.
_RULES: tuple[tuple[str, str, str], ...] = (
    (r"GET", r"/(healthz|readyz)|/v2/health/(live|ready)", PUBLIC),
    (r"GET", r"/openapi\.json|/v1/models(/.*)?|/v2(/models/.+)?", ANY_KEY),
    (r"POST", r"/v1/tags", "tags"),
    # It says who got which copy: a key for labels does not open that.
    (r"POST", r"/v1/marks", "marks"),
    (r"POST", r"/v1/embeddings|/v2/models/.+/infer", "embeddings"),
    (r"GET", r"/v1/labels(/.*)?", "labels:read"),
    (r"(POST|PUT|PATCH|DELETE)", r"/v1/labels(/.*)?", "labels:write"),
    (r"(GET|POST|DELETE)", r"/v1/jobs(/.*)?", "jobs"),
    (r"GET", r"/metrics", "admin"),
)
_COMPILED = [
    (re.compile(method), re.compile(path, re.ASCII), scope) for method, path, scope in _RULES
]


def needed_scope(method: str, path: str) -> str:
    """The scope that a request needs, `public` or `any`; see keyring.SCOPES.

    Args:
        method: In capitals.
        path: Decoded, as the router compares it.
    """
    for methods, paths, scope in _COMPILED:
        if methods.fullmatch(method) and paths.fullmatch(path):
            return scope
    return "admin"


def add_keys(document: dict[str, Any]) -> None:
    """Say in an OpenAPI document which operations ask for a key, and with which scope."""
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needed = needed_scope(method.upper(), path)
            operation["security"] = [] if needed == PUBLIC else [{"bearer": []}, {"apiKey": []}]
            if needed not in (PUBLIC, ANY_KEY):
                operation["x-scope"] = needed
