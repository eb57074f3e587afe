"""Reelsight: tags for short videos, offline on Ray Data and online on Ray Serve."""

__version__ = "0.1.0"

__all__ = ["__version__"]
