"""What happens to a job, as server-sent events (WHATWG HTML, 9.2), from any event on.

An event's id is its number within the job, and events are kept with the job: a client that lost the
line says the last id that it saw, to this replica or another, and misses nothing but old progress.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from deployments.jobs.answer import JobAnswer
from deployments.jobs.bell import Bell
from deployments.jobs.desk import JobDesk
from deployments.jobs.errors import JobExpired, JobStoreBroken, JobUnknown
from deployments.jobs.job import ENDED
from deployments.problems import described
from reelsight.errors import Overloaded

__all__ = ["STREAMS", "JobStreams"]

_POLL_S = 0.5
_LONGEST_S = 300.0
STREAMS = 256


class JobStreams:
    """Streams over a desk.

    Args:
        desk: Whose jobs.
        closing: Whether the door closes: streams end then, because their clients come back to
            another replica and miss nothing, while a closing door would wait for them.
        heartbeat_s: Seconds of silence after which a comment says that the line is whole.
    """

    def __init__(
        self,
        desk: JobDesk,
        closing: Callable[[], bool] = lambda: False,
        *,
        heartbeat_s: float = 15.0,
    ) -> None:
        self._desk, self._heartbeat_s, self._closing = desk, heartbeat_s, closing
        self._open = 0

    def check(self) -> None:
        """See that there is room for one more.

        Raises:
            Overloaded: There is not.
        """
        if self._open >= STREAMS:
            raise Overloaded(
                f"{self._open} clients listen to jobs",
                code="job.too_many_streams",
                hint="Poll GET /v1/jobs/{id}, or ask for a webhook.",
            )

    async def of(self, job: str, after: int) -> AsyncIterator[bytes]:
        """The events of a job after that number, as they come, up to the end.

        A stream that has run for minutes ends, so that a replica can be let go: the client comes
        back with the last id by itself.
        """
        self._open += 1
        try:
            yield b"retry: 1000\n\n"
            async for text in self._events(job, after):
                yield text
        finally:
            self._open -= 1

    async def _events(self, job: str, after: int) -> AsyncIterator[bytes]:
        began = spoke = time.monotonic()
        while time.monotonic() - began < _LONGEST_S:
            ring = self._desk.news.next()
            try:
                found = await self._desk.get(job)
                events = await self._desk.events(job, after)
            except (JobExpired, JobUnknown) as error:
                yield _event("expired", {"problem": described(error, "-")})
                return
            except JobStoreBroken:
                return  # The replica stops, or its disk fails: the client comes back to another.
            for event in events:
                after, spoke = event.seq, time.monotonic()
                state = "running" if event.name == "progress" else event.name
                data: dict[str, Any] = {"id": job, "state": state, **event.data}
                if event.name in ENDED:
                    found = await self._desk.get(job)
                    data = JobAnswer.of(found).model_dump(mode="json")
                yield _event(event.name, data, event.seq)
                if event.name in ENDED:
                    return
            if self._closing():
                return
            if time.monotonic() - spoke >= self._heartbeat_s:
                spoke = time.monotonic()
                yield b": still here\n\n"
            await Bell.heard(ring, min(_POLL_S, self._heartbeat_s))


def _event(name: str, data: dict[str, Any], seq: int | None = None) -> bytes:
    number = "" if seq is None else f"id: {seq}\n"
    return f"{number}event: {name}\ndata: {json.dumps(data)}\n\n".encode()
