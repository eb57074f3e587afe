"""Job: one clip that is answered later, as it stands in the store."""

from __future__ import annotations

import json
import secrets
import sqlite3
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["ENDED", "Event", "Job", "JobState", "NewJob", "new_id"]

JobState = Literal["receiving", "queued", "running", "done", "failed", "expired"]
ENDED: tuple[JobState, ...] = ("done", "failed", "expired")
_ID_BYTES = 16


def new_id() -> str:
    """128 random bits in hex, which nobody guesses."""
    return secrets.token_hex(_ID_BYTES)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a client asks for.

    Attributes:
        clip_id: Name that the Report carries.
        request_id: Of the request that asked.
        sampling: As `Sampling.parse` reads it; None for the plan's.
        webhook: Where the result is posted to; None for nowhere.
        owner: Id of the API key that asked; None where none was shown. To other keys there is no
            such job.
    """

    clip_id: str
    request_id: str
    sampling: str | None = None
    webhook: str | None = None
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands.

    Attributes:
        id: 32 hex digits.
        asked: What for.
        state: See `deployments.jobs.store`.
        size: Bytes of the upload.
        created_at: Unix time, seconds.
        ended_at: Unix time at which it was done or had failed.
        expires_at: Unix time at which its result, or the memory of it, goes.
        attempts: How often it was begun.
        decoded: Frames that the last attempt decoded; None before.
        embedded: Frames that it embedded.
        result: The answer of POST /v1/tags, when done.
        problem: Why it failed, as a problem.
        hook: none | pending | delivered | given_up.
        hook_attempts: How often its result was posted.
    """

    id: str
    asked: NewJob
    state: JobState
    size: int
    created_at: float
    ended_at: float | None
    expires_at: float | None
    attempts: int
    decoded: int | None
    embedded: int | None
    result: dict[str, Any] | None
    problem: dict[str, Any] | None
    hook: str
    hook_attempts: int

    @classmethod
    def of(cls, row: sqlite3.Row) -> Job:
        """The job of a row."""
        return cls(
            id=row["id"],
            asked=NewJob(
                row["clip_id"], row["request_id"], row["sampling"], row["webhook"], row["owner"]
            ),
            state=row["state"],
            size=row["size"],
            created_at=row["created_at"],
            ended_at=row["ended_at"],
            expires_at=row["expires_at"],
            attempts=row["attempts"],
            decoded=row["decoded"],
            embedded=row["embedded"],
            result=None if row["result"] is None else json.loads(row["result"]),
            problem=None if row["problem"] is None else json.loads(row["problem"]),
            hook=row["hook"],
            hook_attempts=row["hook_attempts"],
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job.

    Attributes:
        seq: 1, 2, ... within the job; what Last-Event-ID names.
        name: A state, or `progress`.
        data: What is told with it.
    """

    seq: int
    name: str
    data: dict[str, Any]
