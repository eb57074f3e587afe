"""MarkReading: what an extractor read in one clip, as it is kept until somebody with keys compares.

Soft bits are kept frame by frame and in full: how they are pooled hangs on who compares (limits,
segments, rotating pads), and a verdict must not hang on which door the clip came through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from reelsight.nouns.mark import Carrier, SoftBits

if TYPE_CHECKING:
    from reelsight.nouns.report import Failure, Sampled

__all__ = ["MarkReading", "reading_from"]


@dataclass(frozen=True, slots=True, eq=False)
class MarkReading:
    """What was read.

    Attributes:
        carrier: The pair that the extractor is of: copies of others cannot be told by it.
        extractor_sha256: sha256 (hex) of the extractor's file.
        engine: What ran it.
        engine_hash: Hash of that engine's spec.
        attempts: Soft bits of every view that was read; none where `failure` says why.
        sampled: What was asked of the clip and what came; None likewise.
        failure: Why nothing was read; None where something was.
    """

    carrier: Carrier
    extractor_sha256: str
    engine: str
    engine_hash: str
    attempts: tuple[SoftBits, ...] = ()
    sampled: Sampled | None = None
    failure: Failure | None = None

    def __post_init__(self) -> None:
        if bool(self.attempts) == (self.failure is not None):
            raise ValueError(f"{len(self.attempts)} attempts with failure {self.failure!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `nouns.schema.marks_type` has them."""
        first = self.attempts[0] if self.attempts else None
        return {
            "carrier": {"model": self.carrier.model, "version": self.carrier.version},
            "extractor_sha256": self.extractor_sha256,
            "engine": self.engine,
            "engine_hash": self.engine_hash,
            "sampled": asdict(self.sampled) if self.sampled else None,
            "pts": None if first is None else first.pts,
            "quality": None if first is None else first.quality,
            "attempts": [
                {
                    "view": attempt.view,
                    "presence": attempt.presence,
                    "soft": np.ascontiguousarray(attempt.soft).reshape(-1),
                }
                for attempt in self.attempts
            ],
            "error": asdict(self.failure) if self.failure else None,
        }


def reading_from(stored: pa.StructScalar) -> tuple[Mapping[str, Any], Sequence[SoftBits]]:
    """The facts and the attempts of a stored reading.

    Args:
        stored: Of `nouns.schema.MARKS_TYPE`, not null.

    Returns:
        What stands beside the attempts, as plain values, and the attempts: none where the clip
        could not be read. Every number is the one that was read.

    Raises:
        ValueError: The numbers do not fit together.
    """
    names = ("carrier", "extractor_sha256", "engine", "engine_hash", "sampled", "error")
    facts = {name: stored[name].as_py() for name in names}
    parts = stored["attempts"]
    if not parts.is_valid or not len(parts):
        return facts, ()
    pts = stored["pts"].values.to_numpy(zero_copy_only=False)
    quality = stored["quality"].values.to_numpy(zero_copy_only=False)
    attempts = [
        SoftBits(
            pts=pts,
            soft=part["soft"].values.to_numpy(zero_copy_only=False).reshape(len(pts), -1),
            quality=quality,
            presence=part["presence"].values.to_numpy(zero_copy_only=False),
            view=part["view"].as_py(),
            extractor_sha256=facts["extractor_sha256"],
        )
        for part in parts
    ]
    return facts, attempts
