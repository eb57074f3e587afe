"""Tagging: from frame embeddings to a clip's tags and its Report."""

from reelsight.tagging.aggregate import confidences, tags_of
from reelsight.tagging.report import Timeline, dead_report, tagged_report

__all__ = ["Timeline", "confidences", "dead_report", "tagged_report", "tags_of"]
