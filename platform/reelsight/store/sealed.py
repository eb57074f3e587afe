"""Small JSON documents that carry their own hash, so that a damaged one is told from a true one."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

__all__ = ["digest_of", "seal", "unseal"]

_SEAL = "seal"


def digest_of(document: Any) -> str:
    """sha256, hex, of a document's canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode()).hexdigest()


def seal(document: dict[str, Any]) -> bytes:
    """The document with its hash."""
    whole = document | {_SEAL: digest_of(document)}
    return json.dumps(whole, sort_keys=True, indent=1, allow_nan=False).encode()


def unseal(content: bytes) -> dict[str, Any]:
    """The document, if its hash is right.

    Raises:
        ValueError: It is not what was sealed.
    """
    document = json.loads(content)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    given = document.pop(_SEAL, None)
    if given != digest_of(document):
        raise ValueError(f"its seal is {given}, its content says {digest_of(document)}")
    return document
