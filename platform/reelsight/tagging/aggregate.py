"""From one clip's frame scores to its tags.

A frame stands for the time it was sampled for: weights are seconds, so an uneven sampling does not
change a clip's tags. Scores are taken against the whole bank, never only where a label made a
top-k. Everything is computed from the float16 embeddings that are stored, so re-scoring stored
embeddings gives the same tags to the bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelsight.nouns.label_bank import LabelBank
from reelsight.nouns.report import Segment, Tag

__all__ = ["confidences", "tags_of"]

Floats = npt.NDArray[np.float64]


def confidences(embeddings: npt.NDArray[np.float16], bank: LabelBank) -> Floats:
    """Confidence of every label in every frame.

    The confidence is sigmoid(logit_scale x (cosine - threshold)): 0.5 at the label's threshold, and
    comparable between labels whose cosines live on different ranges.

    Args:
        embeddings: float16 [N, D], L2-normalised.
        bank: L labels with float32 [L, D].

    Returns:
        float64 [N, L] in 0..1.
    """
    # float64 with a fixed order of summation per pair: the result of a frame does not depend on how
    # many frames are scored beside it.
    cosine = np.einsum(
        "nd,ld->nl", embeddings.astype(np.float64), bank.matrix.astype(np.float64), optimize=False
    )
    logits = np.clip(bank.logit_scale * (cosine - bank.thresholds), -60.0, 60.0)
    result: Floats = 1.0 / (1.0 + np.exp(-logits))
    return result


def tags_of(
    pts: Floats, weights: Floats, embeddings: npt.NDArray[np.float16], bank: LabelBank
) -> tuple[Tag, ...]:
    """The labels that at least one frame shows, with their segments.

    Args:
        pts: float64 [N], seconds from the clip's start, ascending.
        weights: float64 [N], seconds that each frame stands for: the stretches follow one another
            from the clip's start.
        embeddings: float16 [N, D], L2-normalised.
        bank: The labels.

    Returns:
        Tags, most prominent (score x coverage) first; names break ties.
    """
    if not len(pts):
        return ()
    scores = confidences(embeddings, bank)
    on = scores >= 0.5
    edges = np.concatenate([[0.0], np.cumsum(weights)])
    tags = [
        _tag(bank.labels[i].name, pts, edges, scores[:, i], on[:, i])
        for i in np.flatnonzero(on.any(axis=0))
    ]
    return tuple(sorted(tags, key=lambda t: (-t.score * t.coverage, t.label)))


def _tag(name: str, pts: Floats, edges: Floats, scores: Floats, on: npt.NDArray[np.bool_]) -> Tag:
    seconds = np.diff(edges)[on]
    return Tag(
        label=name,
        score=_mean(scores[on], seconds),
        coverage=_round(seconds.sum() / edges[-1]) if edges[-1] > 0 else 1.0,
        best_ms=_ms(pts[on][np.argmax(scores[on])]),
        segments=tuple(_segment(pts[a:b], edges[a : b + 1], scores[a:b]) for a, b in _runs(on)),
    )


def _segment(pts: Floats, edges: Floats, scores: Floats) -> Segment:
    return Segment(
        start_ms=_ms(edges[0]),
        end_ms=_ms(edges[-1]),
        score=_mean(scores, np.diff(edges)),
        best_ms=_ms(pts[np.argmax(scores)]),
    )


def _runs(on: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open index ranges of consecutive True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _mean(scores: Floats, seconds: Floats) -> float:
    total = seconds.sum()
    return _round(float(scores @ seconds / total) if total > 0 else float(scores.mean()))


def _round(value: float) -> float:
    """As float32, which is what a Report's row holds: a Report equals its row."""
    return float(np.float32(value))


def _ms(seconds: float) -> int:
    return round(float(seconds) * 1000)
