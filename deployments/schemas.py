"""The words of the HTTP answers: labels with confidences and segments, as Rekognition says them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from reelsight.nouns.report import Report

__all__ = ["ModelFacts", "TagAnswer", "UriRequest"]


class FoundSegment(BaseModel):
    """One stretch of the clip in which a label is on."""

    start_ms: int
    end_ms: int
    confidence: float = Field(description="Duration-weighted mean, 0..1; 0.5 is the threshold.")
    best_ms: int


class FoundLabel(BaseModel):
    """A label that the clip shows."""

    name: str
    confidence: float = Field(description="Duration-weighted mean over the segments, 0..1.")
    coverage: float = Field(description="Share of the clip that the segments cover, 0..1.")
    best_ms: int = Field(description="Time of the frame that shows it best.")
    segments: list[FoundSegment]


class ClipFacts(BaseModel):
    """What the clip is."""

    clip_id: str
    sha256: str | None
    size_bytes: int | None
    duration_s: float | None
    width: int | None
    height: int | None
    codec: str | None
    pixel_format: str | None
    rotation: int | None
    fps: float | None


class SampledFacts(BaseModel):
    """What was looked at."""

    policy: str
    asked: int
    returned: int
    max_error_s: float
    partial: str | None


class FrameFacts(BaseModel):
    """One frame that was looked at."""

    pts: float = Field(description="Seconds from the clip's start.")
    weight_s: float = Field(description="Seconds that it stands for.")


class Versions(BaseModel):
    """What made the answer; equal versions and equal bytes give equal answers."""

    model: str
    model_hash: str
    engine: str
    engine_hash: str
    bank: str
    bank_hash: str
    sampler: str
    code_version: str


class RecheckedFacts(BaseModel):
    """What a second engine, of higher precision, decided for critical labels."""

    labels: list[str] = Field(description="Critical labels that were near their thresholds.")
    frames: list[int] = Field(description="Indices of the frames that were run again.")
    engine: str
    engine_hash: str


class TagAnswer(BaseModel):
    """The tags of one clip, most prominent first."""

    request_id: str
    clip: ClipFacts
    labels: list[FoundLabel]
    sampled: SampledFacts
    frames: list[FrameFacts]
    provenance: Versions
    rechecked: RecheckedFacts | None = None

    @classmethod
    def of(cls, report: Report, request_id: str) -> TagAnswer:
        """The answer that a tagged Report amounts to."""
        told = report.to_dict()
        return cls.model_validate(
            {
                "request_id": request_id,
                "clip": told["clip"],
                "labels": [_label(tag) for tag in told["tags"]],
                "sampled": told["sampled"],
                "frames": told["frames"],
                "provenance": told["provenance"],
                "rechecked": told["rechecked"],
            }
        )


class UriRequest(BaseModel, extra="forbid"):
    """A clip to be fetched."""

    uri: str = Field(max_length=4096)
    clip_id: str | None = Field(default=None, min_length=1, max_length=256)
    sampling: str | None = Field(default=None, max_length=64, examples=["rate:1", "count:8"])


class ModelFacts(BaseModel):
    """An engine that answers; an extractor of marks has no bank."""

    id: str
    object: Literal["model"] = "model"
    model_hash: str
    engine: str
    engine_hash: str
    precision: str
    dim: int
    size: int = Field(description="Side of the frames, pixels.")
    buckets: list[int]
    bank: str
    bank_hash: str
    labels: int
    reads: Literal["tags", "marks"] = "tags"


def _label(tag: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": tag["label"],
        "confidence": tag["score"],
        "coverage": tag["coverage"],
        "best_ms": tag["best_ms"],
        "segments": [
            {**segment, "confidence": segment["score"]} for segment in map(dict, tag["segments"])
        ],
    }
