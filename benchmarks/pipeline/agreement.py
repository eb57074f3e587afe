"""Whether two contenders saw the same: their embeddings at the same timestamps, compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.dataset as ds

from engines.gate.measures import centred_cosine
from reelsight.store.runs import RunStore

__all__ = ["Agreement", "Seen", "compare", "read_ours", "read_peer"]

Floats = npt.NDArray[np.float32]
# Half of a source frame at 15 fps: further apart, two stamps are not the same picture.
_SAME_STAMP_S = 0.035


@dataclass(frozen=True, slots=True)
class Seen:
    """Frames of one run: (clip_id, stamp in milliseconds) and float32 [N, D] embeddings."""

    keys: list[tuple[str, float]]
    embeddings: Floats


@dataclass(frozen=True, slots=True)
class Agreement:
    """How close a peer's embeddings are to ours.

    Attributes:
        frames: Frames that both have.
        only_one: Frames that one has and the other has not.
        cosine: Mean cosine.
        centred_cosine: Mean cosine after our mean embedding is taken off both.
        same_best_label: Share of frames with the same best label.
    """

    frames: int
    only_one: int
    cosine: float
    centred_cosine: float
    same_best_label: float


def read_ours(output: Path) -> Seen:
    """Frames of a backfill's one run."""
    paths = RunStore(output).latest().paths()
    table = ds.dataset(paths, format="parquet").to_table(columns=["clip_id", "frames"])
    keys, rows = [], []
    for clip in table.to_pylist():
        for frame in clip["frames"] or []:
            keys.append((clip["clip_id"], frame["pts"]))
            rows.append(np.asarray(frame["embedding"], dtype=np.float32))
    return Seen(keys, np.stack(rows))


def read_peer(output: Path) -> Seen:
    """Frames of a peer's output directory."""
    table = ds.dataset(output, format="parquet").to_table(columns=["clip_id", "t", "embedding"])
    rows = table.to_pylist()
    keys = [(row["clip_id"], row["t"]) for row in rows]
    return Seen(keys, np.stack([np.asarray(row["embedding"], dtype=np.float32) for row in rows]))


def compare(ours: Seen, peer: Seen, text: Floats) -> Agreement:
    """Match frames by clip and stamp, and compare.

    Args:
        ours: Our run.
        peer: A peer's run over the same clips.
        text: float32 [L, D], the labels both were scored against.
    """
    theirs: dict[str, list[tuple[float, int]]] = {}
    for row, (clip, stamp) in enumerate(peer.keys):
        theirs.setdefault(clip, []).append((stamp, row))
    pairs = []
    for row, (clip, stamp) in enumerate(ours.keys):
        near, twin = min((abs(stamp - s), r) for s, r in theirs.get(clip, [(np.inf, -1)]))
        if near <= _SAME_STAMP_S:
            pairs.append((row, twin))
    left = _unit(ours.embeddings[[a for a, _ in pairs]])
    right = _unit(peer.embeddings[[b for _, b in pairs]])
    return Agreement(
        frames=len(pairs),
        only_one=len(ours.keys) + len(peer.keys) - 2 * len(pairs),
        cosine=round(float(np.sum(left * right, axis=1).mean()), 5),
        centred_cosine=round(float(centred_cosine(left, right).mean()), 5),
        same_best_label=round(
            float(((left @ text.T).argmax(1) == (right @ text.T).argmax(1)).mean()), 4
        ),
    )


def _unit(rows: Floats) -> Floats:
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
