"""Bodies of requests that are no clips: read up to a cap of their own, far below a clip's."""

from __future__ import annotations

from fastapi import Request

from reelsight.errors import RequestError

__all__ = ["read_small"]


async def read_small(request: Request, max_bytes: int, setting: str = "") -> bytes:
    """The whole body.

    Args:
        request: Whose.
        max_bytes: Largest body.
        setting: The setting that says so, for the hint; empty where there is none.

    Raises:
        RequestError: `request.too_large`, as soon as that is known.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes, setting)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes, setting)
    return bytes(body)


def _too_large(max_bytes: int, setting: str) -> RequestError:
    return RequestError(
        f"the body is larger than {max_bytes} bytes",
        status=413,
        code="request.too_large",
        hint="Send less at a time" + (f", or raise {setting}." if setting else "."),
    )
