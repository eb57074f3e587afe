"""Locations without the secrets in them, for messages and logs."""

from __future__ import annotations

import re

__all__ = ["redacted"]

# User info ends at the authority's last @. A secret that was not percent-encoded may hold slashes:
# then the authority seems to end before it, and a colon that begins no port gives it away.
_USER = re.compile(r"(\b[A-Za-z][\w+.-]*://)(?:[^\s/?#]*@|[^\s/@?#]*:(?!\d+/)[^\s?#]*@)")
_QUERY = re.compile(r"\?\S*")


def redacted(text: str) -> str:
    """A uri, or a text with uris in it, without their user info and queries."""
    return _QUERY.sub("", _USER.sub(r"\1", text)) if "://" in text else text
