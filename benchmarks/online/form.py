"""An upload as a form. It imports nothing that takes time: every client process waits for it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["BOUNDARY", "multipart"]

BOUNDARY = "reelsight-benchmark"


def multipart(path: Path) -> bytes:
    """A form with the file in its field `file`, which every contender takes."""
    kind = "image/jpeg" if path.suffix == ".jpg" else "video/mp4"
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n'
        f"Content-Type: {kind}\r\n\r\n"
    )
    return head.encode() + path.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
