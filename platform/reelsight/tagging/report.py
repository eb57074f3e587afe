"""Building Reports: the last step of both doors and of the runner without Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reelsight.nouns.clip import Clip
from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.report import Failure, Provenance, Rechecked, Report, Sampled
from reelsight.tagging.aggregate import tags_of

__all__ = ["Timeline", "dead_report", "tagged_report"]


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """When a clip's frames were sampled, apart from their pixels.

    Attributes:
        pts: float64 [N] seconds from the clip's start.
        weights: float64 [N] seconds that each frame stands for; they follow one another from the
            clip's start.
        sampled: What the sampler asked and got.
    """

    pts: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    sampled: Sampled


def tagged_report(
    clip: Clip,
    timeline: Timeline,
    embeddings: npt.NDArray[np.float16],
    *,
    bank: LabelBank,
    provenance: Provenance,
    carried: dict[str, Any],
    rechecked: Rechecked | None = None,
) -> Report:
    """Score one clip's frames against the whole bank and aggregate them.

    Args:
        clip: The clip.
        timeline: N sampled frames.
        embeddings: float16 [N, D], in the timeline's order.
        bank: The labels.
        provenance: Versions, stamped on the Report.
        carried: Further manifest columns.
        rechecked: Which of the embeddings are a second engine's, and why.

    Raises:
        ValueError: The embeddings are not one a frame.
    """
    if embeddings.shape != (len(timeline.pts), bank.matrix.shape[1]):
        raise ValueError(f"{embeddings.shape} embeddings for {len(timeline.pts)} frames")
    return Report(
        clip=clip,
        status="tagged",
        provenance=provenance,
        tags=tags_of(timeline.pts, timeline.weights, embeddings, bank),
        pts=timeline.pts,
        weights=timeline.weights,
        embeddings=embeddings,
        sampled=timeline.sampled,
        rechecked=rechecked,
        carried=carried,
    )


def dead_report(
    clip: Clip, failure: Failure, *, provenance: Provenance, carried: dict[str, Any]
) -> Report:
    """A dead letter: the clip as far as it is known, and why."""
    return Report(clip=clip, status="dead", provenance=provenance, failure=failure, carried=carried)
