"""Calls to replicas that are full, dead, silent or not waited for any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.exceptions import BackPressureError

from deployments.embedding import EmbedJob
from deployments.replicas import HandleDoor, HandleEmbedder, HandleTagger
from deployments.service import TagJob
from reelsight.errors import Overloaded
from reelsight.plan import TaggingPlan

PIXELS = np.zeros((1, 64, 64, 3), np.uint8)
Answer = Callable[[], Awaitable[Any]]


class Response:
    """What a handle gives at once, as far as it is used."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.cancelled = False

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A handle whose replicas answer as the test says."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.given: list[Response] = []

    def __getattr__(self, name: str) -> Any:
        return self

    def options(self, **_: Any) -> Handle:
        return self

    def remote(self, *_: Any) -> Response:
        self.given.append(Response(self._answer))
        return self.given[-1]


def raising(error: BaseException) -> Answer:
    async def answer() -> Any:
        raise error

    return answer


async def never() -> Any:
    await asyncio.Event().wait()


def calls(handle: Any, plan: TaggingPlan, left_s: float) -> dict[str, Awaitable[Any]]:
    deadline = time.monotonic() + left_s
    return {
        "tag": HandleTagger(handle, plan, 0).tag(TagJob("a", b"clip", deadline)),
        "embed": HandleEmbedder(handle).embed(EmbedJob(("a",), deadline)),
        "frames": HandleDoor(handle).embed(PIXELS, deadline=deadline),
    }


WAYS = ["tag", "embed", "frames"]


def refused(
    way: str, plan: TaggingPlan, answer: Answer, left_s: float = 60.0
) -> tuple[Overloaded, Handle]:
    async def run() -> tuple[Overloaded, Handle]:
        handle = Handle(answer)
        made = calls(handle, plan, left_s)
        work = made.pop(way)
        for other in made.values():
            other.close()  # type: ignore[attr-defined]
        with pytest.raises(Overloaded) as error:
            await asyncio.wait_for(work, 20)
        return error.value, handle

    return asyncio.run(run())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "error",
    [ActorDiedError(), ActorUnavailableError("gone", None), asyncio.CancelledError()],
    ids=["died", "unavailable", "let go"],
)
def test_a_replica_that_dies_is_no_bug_of_the_request(
    way: str, error: BaseException, fake_plan: TaggingPlan
) -> None:
    told, _ = refused(way, fake_plan, raising(error))
    assert (told.code, told.http_status, told.retryable) == ("serve.replica_lost", 503, True)


@pytest.mark.parametrize("way", WAYS)
def test_a_replica_that_is_silent_is_waited_for_up_to_the_deadline(
    way: str, fake_plan: TaggingPlan
) -> None:
    told, handle = refused(way, fake_plan, never, 0.01)
    assert told.code == "request.deadline"
    assert handle.given[0].cancelled


@pytest.mark.parametrize("way", WAYS)
def test_what_nobody_waits_for_is_cancelled_where_it_runs(way: str, fake_plan: TaggingPlan) -> None:
    async def run() -> None:
        begun = asyncio.Event()

        async def answer() -> Any:
            begun.set()
            await never()

        handle = Handle(answer)
        made = calls(handle, fake_plan, 60)
        task = asyncio.ensure_future(made.pop(way))
        for other in made.values():
            other.close()  # type: ignore[attr-defined]
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert handle.given[0].cancelled

    asyncio.run(run())


@pytest.mark.parametrize(
    "answer",
    [
        raising(BackPressureError(num_queued_requests=1, max_queued_requests=1)),
        raising(Overloaded("a full lane", code="decode.overloaded")),
    ],
    ids=["queue", "lane"],
)
@pytest.mark.parametrize("background", [False, True])
def test_a_refusal_is_remembered_before_the_next_body_is_read(
    answer: Answer, background: bool, fake_plan: TaggingPlan
) -> None:
    async def run() -> None:
        tagger = HandleTagger(Handle(answer), fake_plan, 0)
        assert not tagger.full
        job = TagJob("a", b"clip", time.monotonic() + 60, background=background)
        with pytest.raises(Overloaded) as error:
            await tagger.tag(job)
        assert error.value.code == "decode.overloaded"
        assert tagger.full is not background
        await asyncio.sleep(0.15)
        assert not tagger.full

    asyncio.run(run())


def test_health_does_not_wait_for_an_engine_that_is_silent(
    fake_plan: TaggingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.replicas._TELL_S", 0.01)

    async def run() -> None:
        with pytest.raises(Overloaded):
            await asyncio.wait_for(HandleDoor(Handle(never)).stalled_s(), 20)

    asyncio.run(run())
