"""Calls to replicas that are full, dead, silent or not waited for any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, OwnerDiedError
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from deployments.embedding import EmbedJob
from deployments.handles import HandleDoor, HandleEmbedder, HandleTagger
from deployments.meters import Meters
from deployments.service import TagJob
from reelsight.errors import Overloaded
from reelsight.plan import TaggingPlan

PIXELS = np.zeros((1, 64, 64, 3), np.uint8)
Answer = Callable[[], Awaitable[Any]]


class Response:
    """What a handle gives at once, as far as it is used."""

    def __init__(self, answer: Answer, taken: Answer) -> None:
        self._answer, self._taken = answer, taken
        self.cancelled = False

    async def _fetch_future_result_async(self) -> Any:
        return await self._taken()

    def __await__(self) -> Generator[Any, None, Any]:
        return self._answer().__await__()

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """A handle whose replicas answer as the test says: the first, the next, and so on.

    Args:
        answers: The last is that of all further ones.
        taken: Ends when a replica has the call.
    """

    deployment_name = "media"

    def __init__(self, *answers: Answer, taken: Answer | None = None) -> None:
        self._answers, self._taken = answers, taken or at_once
        self.given: list[Response] = []
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return self

    def options(self, **_: Any) -> Handle:
        return self

    def remote(self, *arguments: Any) -> Response:
        answer = self._answers[min(len(self.given), len(self._answers) - 1)]
        self.given.append(Response(answer, self._taken))
        self.asked.append(arguments)
        return self.given[-1]


def raising(error: BaseException) -> Answer:
    async def answer() -> Any:
        raise error

    return answer


def answering(value: Any) -> Answer:
    async def answer() -> Any:
        return value

    return answer


def died(actor: str) -> Answer:
    """As of an actor of that name."""
    error = ActorDiedError()
    error.actor_id = actor
    return raising(error)


async def at_once() -> Any:
    return None


async def never() -> Any:
    await asyncio.Event().wait()


def calls(
    handle: Any, plan: TaggingPlan, left_s: float, wait_s: float = 60.0
) -> dict[str, Awaitable[Any]]:
    deadline, meters = time.monotonic() + left_s, Meters()
    return {
        "tag": HandleTagger(handle, plan, 0, wait_s, meters).tag(TagJob("a", b"clip", deadline)),
        "embed": HandleEmbedder(handle, wait_s, meters).embed(EmbedJob(("a",), deadline)),
        "frames": HandleDoor(handle, wait_s, meters).embed(PIXELS, deadline=deadline),
    }


WAYS = ["tag", "embed", "frames"]


def refused(
    way: str,
    plan: TaggingPlan,
    *answers: Answer,
    left_s: float = 60.0,
    wait_s: float = 60.0,
    taken: Answer | None = None,
) -> tuple[Overloaded, Handle]:
    async def run() -> tuple[Overloaded, Handle]:
        handle = Handle(*answers, taken=taken)
        made = calls(handle, plan, left_s, wait_s)
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
    [
        ActorDiedError(),
        ActorUnavailableError("gone", None),
        OwnerDiedError("0", None, ""),
        asyncio.CancelledError(),
    ],
    ids=["died", "unavailable", "answer lost", "let go"],
)
def test_a_replica_that_dies_is_no_bug_of_the_request(
    way: str, error: BaseException, fake_plan: TaggingPlan
) -> None:
    told, handle = refused(way, fake_plan, raising(error))
    assert (told.code, told.http_status, told.retryable) == ("serve.replica_lost", 503, True)
    assert len(handle.given) == 2


@pytest.mark.parametrize("way", WAYS)
def test_another_replica_is_asked_with_what_is_left(way: str, fake_plan: TaggingPlan) -> None:
    async def run() -> None:
        handle = Handle(died("a"), answering("the answer"))
        made = calls(handle, fake_plan, 60)
        work = made.pop(way)
        for other in made.values():
            other.close()  # type: ignore[attr-defined]
        assert await work == "the answer"
        first, second = (asked[0].left_s if way == "frames" else asked[1] for asked in handle.asked)
        assert 0 < second < first <= 60

    asyncio.run(run())


def test_one_that_was_dead_before_is_no_second_loss(fake_plan: TaggingPlan) -> None:
    told, handle = refused("tag", fake_plan, died("a"), died("a"), died("a"), died("b"))
    assert told.code == "serve.replica_lost"
    assert len(handle.given) == 4


@pytest.mark.parametrize("code", ["serve.replica_lost", "engine.overloaded"])
def test_what_a_replica_answers_is_not_asked_again(code: str, fake_plan: TaggingPlan) -> None:
    told, handle = refused("tag", fake_plan, answering(Overloaded("an answer", code=code)))
    assert (told.message, told.code, len(handle.given)) == ("an answer", code, 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_deadline_that_ends_the_second_try_tells_of_the_loss(
    way: str, fake_plan: TaggingPlan
) -> None:
    told, handle = refused(way, fake_plan, died("a"), never, left_s=0.05)
    assert told.code == "serve.replica_lost"
    assert [one.cancelled for one in handle.given] == [False, True]


@pytest.mark.parametrize("way", WAYS)
def test_the_wait_for_a_replica_is_bounded(way: str, fake_plan: TaggingPlan) -> None:
    told, handle = refused(way, fake_plan, never, wait_s=0.01, taken=never)
    assert (told.code, told.http_status, told.retryable) == ("serve.no_replica", 503, True)
    assert handle.given[0].cancelled


def test_a_deployment_that_does_not_start_is_said_at_once(fake_plan: TaggingPlan) -> None:
    gone = DeploymentUnavailableError(DeploymentID("media"))
    told, handle = refused("tag", fake_plan, never, taken=raising(gone))
    assert (told.code, len(handle.given)) == ("serve.no_replica", 1)


def test_a_job_waits_for_a_replica_as_long_as_for_its_answer(fake_plan: TaggingPlan) -> None:
    async def run() -> None:
        handle = Handle(never, taken=never)
        tagger = HandleTagger(handle, fake_plan, 0, 0.01, Meters())
        job = TagJob("a", b"clip", time.monotonic() + 0.2, background=True)
        with pytest.raises(Overloaded) as error:
            await asyncio.wait_for(tagger.tag(job), 20)
        assert error.value.code == "request.deadline"

    asyncio.run(run())


@pytest.mark.parametrize("way", WAYS)
def test_a_replica_that_is_silent_is_waited_for_up_to_the_deadline(
    way: str, fake_plan: TaggingPlan
) -> None:
    told, handle = refused(way, fake_plan, never, left_s=0.01)
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
        tagger = HandleTagger(Handle(answer), fake_plan, 0, 60.0, Meters())
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
    monkeypatch.setattr("deployments.handles._TELL_S", 0.01)

    async def run() -> None:
        with pytest.raises(Overloaded):
            await asyncio.wait_for(HandleDoor(Handle(never), 60.0, Meters()).stalled_s(), 20)

    asyncio.run(run())
