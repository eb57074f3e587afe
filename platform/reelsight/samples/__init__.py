"""Procedural pictures and clips with known labels: for the demo, the tests and training.

Nothing here is a recording of anything: every scene is drawn from a seed, so its truth is known.
"""

from __future__ import annotations

from reelsight.samples.clips import SampleClip, TruthSegment, write_samples
from reelsight.samples.scene import compose, draw_labels
from reelsight.samples.vocabulary import Label, find, labels, names

__all__ = [
    "Label",
    "SampleClip",
    "TruthSegment",
    "compose",
    "draw_labels",
    "find",
    "labels",
    "names",
    "write_samples",
]
