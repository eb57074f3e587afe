"""A job in the words of the HTTP answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from deployments.jobs.job import Job
from deployments.problems import Problem
from deployments.schemas import TagAnswer, UriRequest

__all__ = ["JobAnswer", "JobRequest"]


class JobRequest(UriRequest):
    """A clip to be fetched and tagged later."""

    webhook: str | None = Field(default=None, max_length=2048)


class HookFacts(BaseModel):
    """How the webhook fares."""

    state: Literal["none", "pending", "delivered", "given_up"]
    attempts: int


class JobAnswer(BaseModel):
    """A job as it stands."""

    id: str
    object: Literal["job"] = "job"
    state: Literal["queued", "running", "done", "failed"]
    clip_id: str
    size_bytes: int
    created_at: str = Field(description="RFC 3339, UTC.")
    ended_at: str | None
    expires_at: str | None = Field(description="When the result goes.")
    attempts: int = Field(description="How often it was begun.")
    frames_decoded: int | None = Field(description="By the last attempt, where that is known.")
    frames_embedded: int | None
    result: TagAnswer | None = Field(description="What POST /v1/tags answers, when done.")
    problem: Problem | None = Field(description="Why it failed.")
    webhook: HookFacts | None

    @classmethod
    def of(cls, job: Job) -> JobAnswer:
        """The answer that a job amounts to."""
        return cls.model_validate(
            {
                "id": job.id,
                "state": job.state,
                "clip_id": job.asked.clip_id,
                "size_bytes": job.size,
                "created_at": _when(job.created_at),
                "ended_at": _when(job.ended_at),
                "expires_at": _when(job.expires_at),
                "attempts": job.attempts,
                "frames_decoded": job.decoded,
                "frames_embedded": job.embedded,
                "result": job.result,
                "problem": job.problem,
                "webhook": {"state": job.hook, "attempts": job.hook_attempts}
                if job.asked.webhook
                else None,
            }
        )

    def message(self) -> dict[str, Any]:
        """What is posted of it: the same each time it is posted."""
        data = self.model_dump(mode="json", exclude={"webhook"})
        return {"type": f"job.{self.state}", "timestamp": self.ended_at, "data": data}


def _when(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
