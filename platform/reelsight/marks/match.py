"""Matching: one soft vector against every code of the ledger, exactly.

Codes are packed, eight bits a byte. For each byte of the code there are 256 partial sums of soft
bits; a row's statistic is the sum of what its bytes look up. That is the product of the code matrix
with the vector, in float64, at a byte of memory for eight bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reelsight.errors import MarkError
from reelsight.marks.codeword import code_function
from reelsight.marks.keys import Keyring
from reelsight.marks.times import require_utc
from reelsight.nouns.mark import IssuedCopy

__all__ = ["LATE", "CodeTable", "scores", "window_scores"]

LATE = "issued after the suspect was received"
"""Why a row that is later than the suspect is left out."""

Deriver = Callable[[int, Sequence[int]], npt.NDArray[np.uint8]]
_BITS = 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class CodeTable:
    """The codes of rows, made again from the tenant keys; lives in memory alone.

    Attributes:
        bits: Length of a code.
        received_at: Rows that were issued later are not in it.
        packed: uint8 [bits / 8, N], codes of N rows, for static pads.
        indices: int64 [N], the rows' places in the ledger.
        left_out: Rows that were not candidates, by reason.
        segment_s: Length of a segment of rotating pads, seconds; None for static codes.
        derive: Codes of one segment of rotating pads, of the rows at some places or of all:
            uint8 [bits / 8, rows].
    """

    bits: int
    received_at: str
    packed: npt.NDArray[np.uint8] = field(repr=False)
    indices: npt.NDArray[np.int64]
    left_out: dict[str, int]
    segment_s: float | None = None
    derive: Deriver | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.indices)

    def codes(self, segment: int) -> npt.NDArray[np.uint8]:
        """uint8 [bits / 8, N]: the codes of one segment; static pads have one for all."""
        return self.packed if self.derive is None else self.derive(segment, range(len(self)))

    def signs(self, place: int, segment: int = 0) -> npt.NDArray[np.float64]:
        """float64 [bits], the code of the row at `place` of this table, as -1 and +1."""
        if self.derive is None:
            column = self.packed[:, place]
        else:
            column = self.derive(segment, (place,))[:, 0]
        return np.concatenate([_BITS[byte] for byte in column])

    @classmethod
    def of(
        cls,
        rows: Iterable[tuple[int, str, IssuedCopy]],
        keyring: Keyring,
        *,
        bits: int,
        received_at: str,
        known_rows: int | None = None,
        wanted: Callable[[IssuedCopy], bool] = lambda _: True,
        segment_s: float | None = None,
    ) -> CodeTable:
        """The codes of every row that can be accused.

        A row that was issued after the suspect was there is none: its code could have been chosen
        by who knew the suspect.

        Args:
            rows: Place in the ledger, time of issue (ISO 8601, UTC) and copy, of each row.
            keyring: Tenant keys; rows of unknown keys are left out and counted.
            bits: Length of the codes that the extractor reads.
            received_at: When the suspect came in, as `utc_text` writes it.
            known_rows: Rows of the ledger when the suspect came in, by a head that somebody else
                kept; None takes the issuer's clock at its word.
            wanted: Narrows the rows by what was known without the marks, such as the asset that
                the picture shows. Must not look at codes.
            segment_s: None for static pads; the length of segments for rotating ones.

        Raises:
            MarkError: As `codeword` does, or `mark.time`.
        """
        require_utc(received_at)
        left_out: dict[str, int] = {}
        makers = {key.id: code_function(key, bits) for key in keyring}
        indices: list[int] = []
        rotating: list[IssuedCopy] = []
        parts = bytearray()
        for index, at, copy in rows:
            reason = None
            if at > received_at or (known_rows is not None and index >= known_rows):
                reason = LATE
            elif not wanted(copy):
                reason = "not asked for"
            reason = reason or _unreadable(copy, keyring, bits, segment_s)
            if reason:
                left_out[reason] = left_out.get(reason, 0) + 1
                continue
            indices.append(index)
            if segment_s is not None:
                rotating.append(copy)
            parts += makers[copy.key_id](copy.identity)
        packed = np.frombuffer(bytes(parts), dtype=np.uint8).reshape(len(indices), bits // 8)
        places = np.array(indices, dtype=np.int64)
        derive = None
        if segment_s is not None:
            derive = _segment_deriver(tuple(rotating), keyring, bits)
        return cls(
            bits, received_at, np.ascontiguousarray(packed.T), places, left_out, segment_s, derive
        )


def scores(codes: npt.NDArray[np.uint8], soft: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """T of every row: sum of the soft bits with the signs of its code.

    Args:
        codes: uint8 [n / 8, N].
        soft: float64 [n].

    Returns:
        float64 [N].

    Raises:
        MarkError: `mark.length`, the lengths differ.
    """
    if soft.shape != (8 * len(codes),):
        raise MarkError(f"{soft.size} soft bits for codes of {8 * len(codes)}", code="mark.length")
    tables = soft.reshape(-1, 8) @ _BITS.T
    total = np.zeros(codes.shape[1])
    for table, column in zip(tables, codes, strict=True):
        total += table[column]
    return total


def window_scores(
    table: CodeTable, sums: npt.NDArray[np.float64]
) -> Iterator[tuple[int, int, npt.NDArray[np.float64]]]:
    """T of every row in every window: single segments, and what halving the timeline gives.

    Args:
        table: Of N codes.
        sums: float64 [G, n], soft bits by segment.

    Yields:
        First segment, the one after the last, and float64 [N]; 2 G - 1 windows, the whole last.
    """

    def walk(low: int, high: int) -> Iterator[tuple[int, int, npt.NDArray[np.float64]]]:
        if high - low == 1:
            yield low, high, scores(table.codes(low), sums[low])
            return
        middle = (low + high) // 2
        total = np.zeros(len(table))
        for half in ((low, middle), (middle, high)):
            for first, end, found in walk(*half):
                yield first, end, found
                if (first, end) == half:
                    total += found
        yield low, high, total

    yield from walk(0, len(sums))


def _unreadable(
    copy: IssuedCopy, keyring: Keyring, bits: int, segment_s: float | None
) -> str | None:
    """Why a row's code is not what the extractor reads; None where it is."""
    if keyring.get(copy.key_id) is None:
        return "its tenant key is not here"
    if copy.bits != bits:
        return "its code has another length"
    return None if copy.segment_s == segment_s else "its pad is another one"


def _segment_deriver(copies: tuple[IssuedCopy, ...], keyring: Keyring, bits: int) -> Deriver:
    def derive(segment: int, places: Sequence[int]) -> npt.NDArray[np.uint8]:
        makers = {key.id: code_function(key, bits, segment) for key in keyring}
        wanted = (copies[place] for place in places)
        data = b"".join(makers[copy.key_id](copy.identity) for copy in wanted)
        packed = np.frombuffer(data, dtype=np.uint8).reshape(len(places), bits // 8)
        return np.ascontiguousarray(packed.T)

    return derive
