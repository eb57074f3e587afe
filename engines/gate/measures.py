"""How far two sets of embeddings lie apart, in geometry and in the labels that they give.

Pure functions of arrays and a bank. Limits are `thresholds`' business; engines are `gate`'s.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reelsight.nouns.label_bank import LabelBank

__all__ = ["agreement_of_shown", "centred_cosine", "margins", "topk_overlap"]

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


def centred_cosine(reference: Floats, other: Floats) -> Floats:
    """Cosine of each row with its twin, after the reference's mean row is taken off both.

    Args:
        reference: float32 [n, dim], n >= 2 different rows.
        other: float32 [n, dim].

    Returns:
        float32 [n], -1..1.
    """
    mean = reference.mean(axis=0, keepdims=True)
    a, b = reference - mean, other - mean
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine: Floats = np.sum(a * b, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    return cosine


def margins(embeddings: Floats, bank: LabelBank) -> npt.NDArray[np.float64]:
    """Cosine minus threshold of every label in every frame; a frame shows a label from 0 up.

    The embeddings are rounded to float16 first and summed in float64, as they are when clips are
    tagged: the gate counts the decisions that users would get.

    Args:
        embeddings: float32 [n, dim], L2-normalised, finite.
        bank: L labels.

    Returns:
        float64 [n, L].
    """
    stored = embeddings.astype(np.float16).astype(np.float64)
    result: npt.NDArray[np.float64] = stored @ bank.matrix.astype(np.float64).T - bank.thresholds
    return result


def topk_overlap(
    reference: npt.NDArray[np.float64], other: npt.NDArray[np.float64], k: int
) -> float:
    """Mean share of the k labels of the largest margin that both have; k = 1 is top-1 agreement.

    Margins and not cosines are ranked, because labels' cosines live on different ranges.

    Args:
        reference: float64 [n, L], margins.
        other: float64 [n, L].
        k: 1..L.
    """
    ours, theirs = _top(reference, k), _top(other, k)
    return float((ours & theirs).sum() / (k * len(reference)))


def agreement_of_shown(reference: Bools, other: Bools) -> float:
    """Decisions that both made over those that either made; 1 where neither made any.

    Most labels are absent from most frames, so an engine that shows nothing at all still agrees on
    most decisions. Here it gets 0.

    Args:
        reference: bool [n, L].
        other: bool [n, L].
    """
    either = int((reference | other).sum())
    return float((reference & other).sum() / either) if either else 1.0


def _top(rows: npt.NDArray[np.float64], k: int) -> Bools:
    chosen = np.zeros(rows.shape, dtype=np.bool_)
    order = np.argsort(-rows, axis=1, kind="stable")[:, :k]
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen
