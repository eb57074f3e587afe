"""Tracing: soft bits per frame in, a Trace out. The seam between extractors and the ledger.

Extractors run on GPU workers and know no key; this runs where the keys are and knows no pixels.
What was tried is counted here, from what was given, so that no caller can count less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from reelsight import __version__
from reelsight.errors import MarkError
from reelsight.marks.account import Account, Circumstances
from reelsight.marks.candidates import Fit, Window, best_fits, soft_of, windows_of
from reelsight.marks.judge import Weighed, judge
from reelsight.marks.keys import Keyring
from reelsight.marks.ledger import Ledger, SignedHead
from reelsight.marks.match import CodeTable
from reelsight.marks.multiplicity import joint_pair_log10
from reelsight.marks.policy import Marking
from reelsight.marks.pool import Pooled, pool
from reelsight.marks.power import power_of
from reelsight.marks.times import require_utc, utc_now
from reelsight.nouns.mark import SoftBits
from reelsight.nouns.mark_trace import Suspect, Trace, Trials

__all__ = ["Tracer"]

# Copies beyond the probable limit that a Trace lists.
_LISTED = 8


class Tracer:
    """Compares suspects with the copies of a ledger.

    Args:
        ledger: For the rows of whoever is accused and their proofs.
        keyring: For the openings of their codes.
        table: Codes of the rows that can be accused.
        head: The ledger's head when the table was made, or a later one; proofs lead to it.
        marking: Limits and how to pool.
    """

    def __init__(
        self, ledger: Ledger, keyring: Keyring, table: CodeTable, head: SignedHead, marking: Marking
    ) -> None:
        self._ledger = ledger
        self._keyring = keyring
        self._table = table
        self._head = head
        self._marking = marking

    def trace(
        self,
        suspect: Suspect,
        attempts: Sequence[SoftBits],
        circumstances: Circumstances | None = None,
    ) -> Trace:
        """Whose copy a suspect is.

        Args:
            suspect: What came in.
            attempts: Soft bits of every view and extractor that was tried, also of those that look
                hopeless: leaving one out that was looked at makes the p-value a lie.
            circumstances: What else to say.

        Raises:
            MarkError: `mark.no_attempt`, `mark.length`, `mark.suspect_too_early`, `mark.time`, or
                `mark.too_long` for rotating pads.
            LedgerError: The ledger cannot be read, or a proof fails.
        """
        about = circumstances or Circumstances()
        self._require(suspect, attempts)
        pooled = [
            pool(a, self._marking, null_mean=about.null_mean, segment_s=self._table.segment_s)
            for a in attempts
        ]
        trials = Trials(
            rows=len(self._table),
            attempts=len(attempts),
            tried_before=about.tried_before,
            # The attempt with the most windows counts for all: never less than there were.
            windows=max(2 * len(p.sums) - 1 for p in pooled),
            look=about.look,
            suspects=about.suspects,
        )
        found = [
            (window, fits)
            for number, p in enumerate(pooled)
            for window, fits in windows_of(number, p, self._table, trials)
        ]
        best = best_fits([fit for _, fits in found for fit in fits])
        return self._tell(suspect, attempts, pooled, trials, found, best, about)

    def _require(self, suspect: Suspect, attempts: Sequence[SoftBits]) -> None:
        if not attempts:
            raise MarkError("nothing was read from the suspect", code="mark.no_attempt")
        for attempt in attempts:
            if attempt.bits != self._table.bits:
                raise MarkError(
                    f"soft bits of {attempt.bits} for codes of {self._table.bits}",
                    code="mark.length",
                )
        if require_utc(suspect.received_at) < self._table.received_at:
            raise MarkError(
                f"the suspect came in {suspect.received_at}, and copies issued until "
                f"{self._table.received_at} would be compared",
                code="mark.suspect_too_early",
                hint="Make the code table for the time at which the suspect came in.",
            )

    def _tell(
        self,
        suspect: Suspect,
        attempts: Sequence[SoftBits],
        pooled: Sequence[Pooled],
        trials: Trials,
        found: Sequence[tuple[Window, list[Fit]]],
        best: Sequence[Fit],
        about: Circumstances,
    ) -> Trace:
        marking, table = self._marking, self._table
        account = Account(self._ledger, self._keyring, table, self._head, pooled)
        first = best[0] if best else None
        used = first.window.attempt if first else 0
        whole = Window(used, 0, len(pooled[used].sums), whole=True)
        runner = account.runner_up(first, found) if first else None
        joint, pair = _joint(account, found, trials)
        likely = _likely(best, joint, pair, marking)
        power = power_of(len(soft_of(pooled[used], whole, table)), trials, marking.identified)
        verdict, statement = judge(
            Weighed(
                standings=[account.standing(fit) for fit in likely],
                pair=(account.standing(pair[0]), account.standing(pair[1])) if pair else None,
                joint_log10_p_adjusted=joint,
                frames=pooled[used].used,
                presence=pooled[used].presence,
                power=power,
            ),
            marking,
        )
        soft = soft_of(pooled[used], first.window if first else whole, table)
        return Trace(
            verdict=verdict,
            statement=statement,
            suspect=suspect,
            accused=tuple(account.of(fit, opened=True) for fit in likely),
            runner_up=account.of(runner, opened=False) if runner else None,
            margin=first.statistic - runner.statistic if first and runner else None,
            joint_log10_p_adjusted=joint,
            trials=trials,
            identified=marking.identified,
            probable=marking.probable,
            windows=account.windows(found, used),
            frames=account.frames(attempts[used], first, about),
            pooled=tuple(soft.tolist()),
            view=attempts[used].view,
            presence=pooled[used].presence,
            power=power,
            left_out=dict(table.left_out),
            head=self._head.head,
            models=about.models,
            calibration=about.calibration,
            rerun=about.rerun,
            code_version=__version__,
            made_at=utc_now(),
        )


def _likely(
    best: Sequence[Fit], joint: float | None, pair: Sequence[Fit], marking: Marking
) -> list[Fit]:
    """Copies that a Trace lists: beyond the probable limit, or of a pair beyond that for naming."""
    named = math.log10(marking.identified)
    likely = [f for f in best if f.log10_p_adjusted <= math.log10(marking.probable)][:_LISTED]
    # Where one copy is named by itself, a pair with it shows nothing of the other.
    alone = any(fit.log10_p_adjusted <= named for fit in likely)
    if joint is not None and joint <= named and not alone:
        likely += [fit for fit in pair if fit.place not in {f.place for f in likely}]
    return likely


def _joint(
    account: Account, found: Sequence[tuple[Window, list[Fit]]], trials: Trials
) -> tuple[float | None, tuple[Fit, ...]]:
    """The most surprising pair of copies of two recipients in one window, where there is one."""
    best: float | None = None
    pair: tuple[Fit, ...] = ()
    for window, fits in found:
        second = account.runner_up(fits[0], [(window, fits)]) if fits else None
        if second is not None:
            value = joint_pair_log10(second.log10_p, trials, whole=window.whole)
            if best is None or value < best:
                best, pair = value, (fits[0], second)
    return best, pair
