"""Models that are shipped with the package: files, and where they are."""

from pathlib import Path

__all__ = ["MARK", "MINI"]

MINI = Path(__file__).parent / "mini"
MARK = Path(__file__).parent / "mark"
"""The pair of networks that writes and reads marks."""
