"""What a disk that cannot be written to means for whoever derives, calibrates and collects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reelsight.errors import EngineError

__all__ = ["writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Around the writing of a file.

    Raises:
        EngineError: `engine.unwritable`, for an OSError inside.
    """
    try:
        yield
    except OSError as error:
        raise EngineError(
            f"{path} cannot be written: {error}",
            code="engine.unwritable",
            hint="Check the directory's space and permissions.",
        ) from error
