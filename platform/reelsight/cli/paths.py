"""Files that a person means when a directory is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["expand", "videos_below"]

# What is searched for by name; what is in a file is decided by its bytes.
_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".flv", ".3gp"),
    *(".ts", ".m2ts", ".mpg", ".mpeg", ".ogv"),
)


def videos_below(directory: Path, *, all_files: bool = False) -> list[Path]:
    """Files below a directory, sorted; only those named like videos unless all are wanted."""
    return sorted(
        path
        for path in directory.rglob("*")
        if path.is_file() and (all_files or path.suffix.lower() in _SUFFIXES)
    )


def expand(paths: Iterable[str]) -> Iterator[str]:
    """Directories become the videos below them; everything else is taken as it is."""
    for path in paths:
        if _is_directory(path):
            yield from map(str, videos_below(Path(path)))
        else:
            yield path


def _is_directory(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # A name that the system cannot even look up.
        return False
