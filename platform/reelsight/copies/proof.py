"""Proof: a finished copy is read, and only one that could be named is handed out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reelsight.copies.film import open_film
from reelsight.copies.marker import CodeAt
from reelsight.copies.texture import texture
from reelsight.engine.host import EngineHost
from reelsight.errors import MarkError
from reelsight.marks.bound import chernoff_log10
from reelsight.media.active_scaler import ActiveScaler, Boxes
from reelsight.media.limits import MediaLimits
from reelsight.media.luma import Plane
from reelsight.media.orientation import orientation_of
from reelsight.nouns.engine_spec import Geometry

__all__ = ["ReadBack", "read_back"]

# One in a million after a million rows were compared: what a ledger of that size needs to name it.
_NAMED_LOG10_P = -12.0
_MOST_FRAMES = 48
_APART_S = 0.25


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What an extractor reads of a copy, as it was encoded.

    Attributes:
        frames: Pictures that were read, from the beginning on; flat ones are passed over.
        wrong: Bits of the pooled reading that are not the code's, of `bits`.
        bits: Length of the code.
        log10_p: log10 of the bound on so good a fit by chance, for one row.
    """

    frames: int
    wrong: int
    bits: int
    log10_p: float

    def require(self) -> None:
        """Refuse a copy that could not be named.

        Raises:
            MarkError: `mark.unreadable`.
        """
        if self.log10_p > _NAMED_LOG10_P:
            raise MarkError(
                f"the copy could not be traced: {self.wrong} of {self.bits} bits are wrong in "
                f"{self.frames} pictures, p = 10^{self.log10_p:.1f} where 10^{_NAMED_LOG10_P:g} "
                "is needed",
                code="mark.unreadable",
                hint="Mark it more strongly (--strength, fewer dB) or encode it better (--crf).",
            )


def read_back(
    path: Path, host: EngineHost, code_at: CodeAt, boxes: Boxes, limits: MediaLimits
) -> ReadBack:
    """Read a copy's own code.

    Args:
        path: The copy.
        host: Of the extractor.
        code_at: What was written when.
        boxes: Active pictures of the asset.
        limits: Caps.

    Raises:
        MediaError: The copy cannot be decoded.
        EngineError: The extractor failed.
    """
    luma, times = _sampled(path, host.spec.geometry.size, boxes, limits)
    if not times:
        return ReadBack(0, host.spec.dim - 1, host.spec.dim - 1, 0.0)
    rows = host.run(np.repeat(np.stack(luma)[..., None], 3, axis=-1))
    signs = np.stack([2 * code_at(at) - 1 for at in times])
    # Each bit times its sign: what agrees adds up, whichever code a segment has.
    agreeing = (rows[:, :-1] * signs).astype(np.float64).sum(axis=0)
    wrong = int((agreeing <= 0).sum())
    log10_p = chernoff_log10(agreeing, float(agreeing.sum()))
    return ReadBack(len(times), wrong, host.spec.dim - 1, log10_p)


def _sampled(
    path: Path, size: int, boxes: Boxes, limits: MediaLimits
) -> tuple[list[Plane], list[float]]:
    """Squashed pictures that are not flat, some time apart, and when they come on display."""
    scaler = ActiveScaler(Geometry(size, "active"), boxes)
    found: list[Plane] = []
    times: list[float] = []
    with open_film(path, limits) as film:
        first: int | None = None
        for frame in film.frames():
            stamp = frame.pts or 0
            first = stamp if first is None else first
            at = float((stamp - first) * film.unit)
            if times and at < times[-1] + _APART_S:
                continue
            small = scaler.squashed(frame, orientation_of(frame))
            if float(texture(small[None])[0]) > 0:
                found.append(small)
                times.append(at)
            if len(times) == _MOST_FRAMES:
                break
    return found, times
