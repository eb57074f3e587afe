"""Models that are shipped with the package: files, and where they are."""

from pathlib import Path

__all__ = ["MINI"]

MINI = Path(__file__).parent / "mini"
