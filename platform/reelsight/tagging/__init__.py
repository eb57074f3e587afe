"""Tagging: from frame embeddings to a clip's tags and its Report, and what another bank changes."""

from reelsight.tagging.aggregate import confidences, tags_of
from reelsight.tagging.changes import MOVED, Changes, changes_of
from reelsight.tagging.difference import ClipChange, LabelDifference, TagDifference
from reelsight.tagging.report import Timeline, dead_report, tagged_report
from reelsight.tagging.rescore import Rescoring

__all__ = [
    "MOVED",
    "Changes",
    "ClipChange",
    "LabelDifference",
    "Rescoring",
    "TagDifference",
    "Timeline",
    "changes_of",
    "confidences",
    "dead_report",
    "tagged_report",
    "tags_of",
]
