"""Report: everything that is known of one clip after a run, tagged or dead, with its provenance."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reelsight.errors import ReelsightError
from reelsight.nouns.clip import Clip
from reelsight.nouns.mark_reading import MarkReading

__all__ = ["Failure", "Provenance", "Rechecked", "Report", "Sampled", "Segment", "Status", "Tag"]

Status = Literal["tagged", "dead"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of a clip in which a label is on.

    Attributes:
        start_ms: Time of the first frame that shows the label, from the clip's start.
        end_ms: Time of the first later sample without it, or the clip's end.
        score: Duration-weighted mean confidence inside the segment, 0..1.
        best_ms: Time of the frame with the highest confidence.
    """

    start_ms: int
    end_ms: int
    score: float
    best_ms: int


@dataclass(frozen=True, slots=True)
class Tag:
    """A label that the clip shows.

    Attributes:
        label: Name in the label bank.
        score: Duration-weighted mean confidence over the segments, 0..1; 0.5 is the threshold.
        coverage: Share of the clip's duration that the segments cover, 0..1.
        best_ms: Time of the frame with the highest confidence.
        segments: Where the label is on, in order of time.
    """

    label: str
    score: float
    coverage: float
    best_ms: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a clip is a dead letter.

    Attributes:
        stage: Where it stopped: fetch, decode, engine, internal.
        code: Stable dotted code of the error.
        message: What happened, with the offending value.
        hint: What to do next.
        retryable: Whether the same bytes may succeed later.
        attempts: How often it was tried.
    """

    stage: str
    code: str
    message: str
    hint: str
    retryable: bool = False
    attempts: int = 1

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The failure that an error amounts to; an unexpected one is named by its type."""
        if isinstance(error, ReelsightError):
            return cls(error.stage, error.code, error.message, error.hint, error.retryable)
        return cls(
            stage="internal",
            code="internal.unexpected",
            message=f"{type(error).__name__}: {error}",
            hint=ReelsightError.hint,
        )


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the sampler asked of a clip and what it got.

    Attributes:
        policy: The sampler and its parameter, such as `rate:1`.
        asked: Number of target times.
        returned: Number of frames, after targets that share a frame collapsed.
        max_error_s: Largest distance between a target and the frame that stands for it, seconds.
        partial: The decoder's message when decoding stopped early, else None.
    """

    policy: str
    asked: int
    returned: int
    max_error_s: float
    partial: str | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which versions made a Report; equal provenance and equal bytes give equal Reports."""

    model: str
    model_hash: str
    engine: str
    engine_hash: str
    bank: str
    bank_hash: str
    sampler: str
    code_version: str


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What a second engine, of higher precision, decided for critical labels.

    Attributes:
        labels: Critical labels that were near their thresholds, in the bank's order.
        frames: Indices of the frames that were run again: their embeddings are the second engine's.
        engine: That engine.
        engine_hash: Hash of its spec.
    """

    labels: tuple[str, ...]
    frames: tuple[int, ...]
    engine: str
    engine_hash: str


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """One clip's outcome: exactly one Report exists for every manifest row.

    Attributes:
        clip: The clip, as far as it could be described.
        status: `tagged` when frames were scored (even if no label is on), else `dead`.
        provenance: Versions of everything that took part.
        tags: Labels that are on, most prominent (score x coverage) first.
        pts: float64 [N], time of each sampled frame in seconds from the clip's start.
        weights: float64 [N], seconds that each frame stands for, one after the other.
        embeddings: float16 [N, D], L2-normalised; tags were computed from exactly these values.
        sampled: What the sampler asked and got; None for a dead clip.
        failure: Why the clip is dead; None for a tagged one.
        rechecked: What a second engine decided; None where the first decided everything.
        carried: Further manifest columns, by name.
        marks: What was read of marks; None where nobody asked, or the clip is dead.
    """

    clip: Clip
    status: Status
    provenance: Provenance
    tags: tuple[Tag, ...] = ()
    pts: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    weights: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    embeddings: npt.NDArray[np.float16] = field(
        default_factory=lambda: np.zeros((0, 0), dtype=np.float16)
    )
    sampled: Sampled | None = None
    failure: Failure | None = None
    rechecked: Rechecked | None = None
    carried: dict[str, Any] = field(default_factory=dict)
    marks: MarkReading | None = None

    def __post_init__(self) -> None:
        if (self.status == "dead") != (self.failure is not None):
            raise ValueError(f"status {self.status!r} with failure {self.failure!r}")
        if not len(self.pts) == len(self.weights) == len(self.embeddings):
            raise ValueError(
                f"{len(self.pts)} pts, {len(self.weights)} weights and "
                f"{len(self.embeddings)} embeddings"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Report):
            return NotImplemented
        return (
            self.to_dict() == other.to_dict()
            and _marks_of(self) == _marks_of(other)
            and self.embeddings.shape == other.embeddings.shape
            and self.embeddings.tobytes() == other.embeddings.tobytes()
        )

    __hash__ = None  # type: ignore[assignment]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; times are in, embeddings and soft bits are not."""
        return {
            "clip_id": self.clip.clip_id,
            "status": self.status,
            "clip": asdict(self.clip),
            "tags": [asdict(tag) for tag in self.tags],
            "frames": [
                {"pts": float(t), "weight_s": float(w)}
                for t, w in zip(self.pts, self.weights, strict=True)
            ],
            "sampled": asdict(self.sampled) if self.sampled else None,
            "error": asdict(self.failure) if self.failure else None,
            "provenance": asdict(self.provenance),
            "rechecked": asdict(self.rechecked) if self.rechecked else None,
            "carried": self.carried,
        }


def _marks_of(report: Report) -> str | None:
    """Every number of a reading, to compare it by."""
    if report.marks is None:
        return None
    return json.dumps(report.marks.to_dict(), default=lambda values: values.tolist())
