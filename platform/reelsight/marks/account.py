"""The account of a trace: what is told of each copy, window and frame that took part.

It looks rows up, opens the codes of whoever is accused and proves their rows. It judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reelsight.errors import LedgerError
from reelsight.marks.bound import binomial_log10_tail, hard_mismatches
from reelsight.marks.candidates import Fit, Window, soft_of
from reelsight.marks.codeword import Opening, opening
from reelsight.marks.judge import Standing
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger import Ledger, LedgerRow, SignedHead, chain_proof
from reelsight.marks.match import CodeTable
from reelsight.marks.pool import Pooled
from reelsight.nouns.mark import IssuedCopy, SoftBits
from reelsight.nouns.mark_trace import (
    Accused,
    ChainProof,
    FrameUse,
    LedgerSource,
    ModelUse,
    NullCalibration,
    WindowResult,
)

__all__ = ["Account", "Circumstances"]


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a Trace says beside what it computes.

    Attributes:
        models: Models that took part.
        calibration: What the same models gave on unmarked footage.
        null_mean: float64 [n], mean soft bits on unmarked footage.
        tried_before: Attempts at this suspect in earlier traces.
        look: Which look at a live stream, from 1; 0 for a file.
        suspects: Videos that were looked at together with this one, itself among them.
        rerun: One command that makes the Trace again.
        thumbnails: JPEG, base64, by the frame's time in seconds.
    """

    models: tuple[ModelUse, ...] = ()
    calibration: NullCalibration | None = None
    null_mean: npt.NDArray[np.float64] | None = None
    tried_before: int = 0
    look: int = 0
    suspects: int = 1
    rerun: str | None = None
    thumbnails: Mapping[float, str] | None = None


class Account:
    """Tells of one trace.

    Args:
        ledger: Where rows are.
        keyring: Opens codes.
        table: Codes that were compared.
        head: What proofs lead to.
        pooled: Sums of every attempt.
    """

    def __init__(
        self,
        ledger: Ledger,
        keyring: Keyring,
        table: CodeTable,
        head: SignedHead,
        pooled: Sequence[Pooled],
    ) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._table = table
        self._head = head
        self._pooled = pooled
        self._rows: dict[int, tuple[LedgerRow, IssuedCopy]] = {}

    def recipient(self, fit: Fit) -> str:
        """Who got the copy."""
        return self._row(fit)[1].identity.recipient

    def standing(self, fit: Fit) -> Standing:
        """The copy as the judge sees it."""
        edges = self._pooled[fit.window.attempt].edges
        span = (float(edges[fit.window.first]), float(edges[fit.window.end]))
        return Standing(self.recipient(fit), fit.log10_p_adjusted, span)

    def runner_up(self, first: Fit, found: Sequence[tuple[Window, list[Fit]]]) -> Fit | None:
        """The best copy of another recipient in the window of `first`."""
        fits = next(fits for window, fits in found if window == first.window)
        name = self.recipient(first)
        return next((fit for fit in fits if self.recipient(fit) != name), None)

    def of(self, fit: Fit, *, opened: bool) -> Accused:
        """All that is known of one copy; its code and its proof where `opened`."""
        row, copy = self._row(fit)
        pooled, window = self._pooled[fit.window.attempt], fit.window
        soft = soft_of(pooled, window, self._table)
        wrong = hard_mismatches(soft, self._signs(fit.place, window))
        opens = self._opening(copy) if opened else None
        return Accused(
            source=LedgerSource(
                row.serial,
                copy.identity.recipient,
                copy.identity.asset,
                copy.channel,
                row.at,
                f"{copy.carrier.model} {copy.carrier.version}",
            ),
            start_s=float(pooled.edges[window.first]),
            end_s=float(pooled.edges[window.end]),
            statistic=fit.statistic,
            most=float(np.abs(soft).sum()),
            agreeing=len(soft) - wrong,
            bits=len(soft),
            log10_p=fit.log10_p,
            log10_p_adjusted=fit.log10_p_adjusted,
            log10_p_hard=binomial_log10_tail(len(soft), wrong),
            code=opens.codeword(copy.bits).data.hex() if opens and copy.pad == "static" else None,
            copy_key=opens.copy_key if opens else None,
            commitment=copy.commitment,
            proof=self._proof(row) if opened else None,
        )

    def windows(
        self, found: Sequence[tuple[Window, list[Fit]]], used: int
    ) -> tuple[WindowResult, ...]:
        """The best copy of every window of one attempt."""
        edges = self._pooled[used].edges
        own = [(window, fits) for window, fits in found if window.attempt == used]
        own.sort(key=lambda pair: (pair[0].first, -pair[0].end))
        return tuple(
            WindowResult(
                float(edges[window.first]),
                float(edges[window.end]),
                self._row(fits[0])[0].serial if fits else None,
                fits[0].log10_p_adjusted if fits else 0.0,
            )
            for window, fits in own
        )

    def frames(
        self, attempt: SoftBits, first: Fit | None, about: Circumstances
    ) -> tuple[FrameUse, ...]:
        """What every frame of an attempt said of the best copy's code."""
        pooled = self._pooled[first.window.attempt if first else 0]
        last = len(pooled.edges) - 2
        places = np.clip(np.searchsorted(pooled.edges, attempt.pts, side="right") - 1, 0, last)
        thumbnails = about.thumbnails or {}
        segments = {int(place) for place in places}
        signs = {g: self._table.signs(first.place, g) for g in segments} if first else {}
        return tuple(
            FrameUse(
                pts=float(t),
                weight=float(pooled.weights[i]),
                presence=float(attempt.presence[i]),
                agreement=float(
                    np.mean(np.where(pooled.limited[i] >= 0, 1, -1) == signs[int(places[i])])
                )
                if signs
                else None,
                thumbnail=thumbnails.get(float(t)),
            )
            for i, t in enumerate(attempt.pts)
        )

    def _signs(self, place: int, window: Window) -> npt.NDArray[np.float64]:
        if self._table.derive is None:
            return self._table.signs(place)
        segments = range(window.first, window.end)
        return np.concatenate([self._table.signs(place, segment) for segment in segments])

    def _opening(self, copy: IssuedCopy) -> Opening | None:
        key = self._keyring.get(copy.key_id)
        return opening(key, copy.identity) if key is not None else None

    def _proof(self, row: LedgerRow) -> ChainProof:
        proof = chain_proof(self._ledger.store, row.index, self._head.head)
        return replace(proof, head_signature=self._head.signature)

    def _row(self, fit: Fit) -> tuple[LedgerRow, IssuedCopy]:
        index = int(self._table.indices[fit.place])
        if index not in self._rows:
            row = self._ledger.row(index)
            if row.copy is None:
                raise LedgerError(f"row {index} is no copy", code="ledger.bad_row")
            self._rows[index] = row, row.copy
        return self._rows[index]
