"""The steps that make a file durable, one method each.

A class and not functions, so that a test can break every single step of the code that production
runs. It knows nothing of runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

__all__ = ["Disk"]


class Disk:
    """A local or mounted file system."""

    def write(self, path: Path, content: Any) -> None:
        """Write a file, in the place of one that is there; not durable yet."""
        with path.open("wb") as file:
            file.write(content)

    def sync(self, path: Path) -> None:
        """Make a file's content, or a directory's entries, survive a loss of power."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def link(self, source: Path, target: Path) -> None:
        """Give a file a second name, unless somebody has that name."""
        os.link(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """Make one directory, if it is not there."""
        path.mkdir(exist_ok=True)
