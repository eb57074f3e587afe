"""Candidates: the best rows of every window of every attempt, and the best window of every row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reelsight.marks.bound import chernoff_log10_many
from reelsight.marks.match import CodeTable, window_scores
from reelsight.marks.multiplicity import adjusted_log10
from reelsight.marks.pool import Pooled
from reelsight.nouns.mark_trace import Trials

__all__ = ["Fit", "Window", "best_fits", "soft_of", "windows_of"]

# How many of a window's best rows are looked at: more colluders than that are not told apart.
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Fit:
    """How well one row fits in one window.

    Attributes:
        place: The row's place in the code table.
        statistic: T.
        log10_p: Bound on its probability for an innocent row.
        log10_p_adjusted: After everything that was tried.
        window: Where.
    """

    place: int
    statistic: float
    log10_p: float
    log10_p_adjusted: float
    window: Window


@dataclass(frozen=True, slots=True)
class Window:
    """Segments of one attempt.

    Attributes:
        attempt: Which attempt.
        first: First segment.
        end: The one after the last.
        whole: Whether that is all of the clip.
    """

    attempt: int
    first: int
    end: int
    whole: bool

    def overlaps(self, other: Window) -> bool:
        """Whether both look at some of the same segments."""
        return self.first < other.end and other.first < self.end


def windows_of(
    attempt: int, pooled: Pooled, table: CodeTable, trials: Trials
) -> Iterator[tuple[Window, list[Fit]]]:
    """Every window of an attempt with its best rows, the best first.

    Args:
        attempt: Its number.
        pooled: Its sums.
        table: The codes.
        trials: What is tried in all.
    """
    count = len(pooled.sums)
    for first, end, found in window_scores(table, pooled.sums):
        window = Window(attempt, first, end, end - first == count)
        kept = min(_KEPT, len(found))
        if not kept:
            yield window, []
            continue
        least = np.partition(found, len(found) - kept)[len(found) - kept]
        places = np.flatnonzero(found >= least)
        # Equal rows in the order of the ledger, so that a trace is the same when made again.
        places = places[np.lexsort((places, -found[places]))][:kept]
        soft = soft_of(pooled, window, table)
        logs = chernoff_log10_many(soft[None, :], found[places])
        yield (
            window,
            [
                Fit(
                    int(place),
                    float(found[place]),
                    float(log10_p),
                    adjusted_log10(float(log10_p), trials, whole=window.whole),
                    window,
                )
                for place, log10_p in zip(places, logs, strict=True)
            ],
        )


def soft_of(pooled: Pooled, window: Window, table: CodeTable) -> npt.NDArray[np.float64]:
    """What a window's statistic is made of: [n], or [n * segments] of rotating pads."""
    sums = pooled.sums[window.first : window.end]
    return sums.reshape(-1) if table.derive is not None else np.asarray(sums.sum(axis=0))


def best_fits(fits: Sequence[Fit]) -> list[Fit]:
    """For every row the window where it fits best; the most surprising row first."""
    best: dict[int, Fit] = {}
    for fit in fits:
        known = best.get(fit.place)
        if known is None or _rank(fit) < _rank(known):
            best[fit.place] = fit
    return sorted(best.values(), key=_rank)


def _rank(fit: Fit) -> tuple[float, float, int]:
    return fit.log10_p_adjusted, -fit.statistic, fit.place
