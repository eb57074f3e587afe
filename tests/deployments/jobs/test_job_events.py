"""A job's events: in order, each once, from any on, with a sign of life, up to the result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from deployments.drain import Drain
from reelsight.samples.clips import SampleClip
from tests.deployments.jobs.conftest import Door, events_of

Opened = Callable[..., None]
RAW = {"content-type": "video/mp4"}


def test_the_stream_tells_all_and_ends(opened: Opened, samples: list[SampleClip]) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        listening = asyncio.create_task(door.client.get(f"{told.headers['location']}/events"))
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        door.gate.opened.set()
        answer = await listening
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.startswith("retry: 1000\n\n")
        events = events_of(answer.text)
        names = [name for _, name, _ in events]
        assert [n for n in names if n != "progress"] == ["queued", "running", "done"]
        numbers = [number or 0 for number, _, _ in events]
        assert numbers == sorted(set(numbers))
        assert events[-1][2]["result"]["labels"]

    opened(test, jobs_open=False)


def test_a_client_that_comes_back_misses_nothing(opened: Opened, samples: list[SampleClip]) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        where = f"{told.headers['location']}/events"
        whole = events_of((await door.client.get(where)).text)
        for number, _, _ in whole[:-1]:
            again = await door.client.get(where, headers={"last-event-id": str(number)})
            assert events_of(again.text) == [event for event in whole if event[0] > number]  # type: ignore[operator]
        # After the last there is nothing: 204 tells an EventSource to stay away.
        last = await door.client.get(where, headers={"last-event-id": str(whole[-1][0])})
        assert (last.status_code, last.content) == (204, b"")

    opened(test)


def test_a_line_that_is_cut_frees_its_place_and_can_be_taken_up(
    opened: Opened, samples: list[SampleClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.jobs.stream.STREAMS", 1)
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        path = f"{told.headers['location']}/events"
        heard = asyncio.Event()
        cut = asyncio.Event()
        got = b""

        async def receive() -> dict[str, Any]:
            await cut.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal got
            got += message.get("body", b"")
            if b"event: running" in got:
                heard.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        line = asyncio.create_task(door.api(scope, receive, send))
        await asyncio.wait_for(heard.wait(), 10)
        full = await door.client.get(path)
        assert (full.status_code, full.json()["code"]) == (503, "job.too_many_streams")
        cut.set()
        await asyncio.wait_for(line, 10)
        door.gate.opened.set()
        last = max(number or 0 for number, _, _ in events_of(got.decode()))
        rest = await door.client.get(path, headers={"last-event-id": str(last)})
        assert events_of(rest.text)[-1][1] == "done"

    opened(test, jobs_open=False)


def test_silence_is_broken_by_comments(
    opened: Opened, samples: list[SampleClip], monkeypatch: pytest.MonkeyPatch
) -> None:
    from deployments.jobs import stream

    monkeypatch.setattr(stream.JobStreams.__init__, "__kwdefaults__", {"heartbeat_s": 0.02})
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        listening = asyncio.create_task(door.client.get(f"{told.headers['location']}/events"))
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        await asyncio.sleep(0.3)
        door.gate.opened.set()
        text = (await listening).text
        assert text.count(": still here\n\n") >= 3
        assert [name for _, name, _ in events_of(text)][-1] == "done"

    opened(test, jobs_open=False)


def test_the_stream_of_a_job_that_is_cancelled_and_forgotten_ends(
    opened: Opened, samples: list[SampleClip]
) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        where = told.headers["location"]
        listening = asyncio.create_task(door.client.get(f"{where}/events"))
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        await door.client.delete(where)
        events = events_of((await listening).text)
        assert events[-1][1] == "failed"
        assert events[-1][2]["problem"]["code"] == "job.cancelled"

    opened(test, jobs_open=False)


def test_a_stream_ends_when_the_door_closes(opened: Opened, samples: list[SampleClip]) -> None:
    clip = samples[0].path.read_bytes()

    async def test(door: Door) -> None:
        told = await door.client.post("/v1/jobs", content=clip, headers=RAW)
        where = f"{told.headers['location']}/events"
        listening = asyncio.create_task(door.client.get(where))
        await asyncio.wait_for(door.gate.entered.wait(), 10)
        drain: Drain = door.api.state.drain
        async with asyncio.timeout(10):
            while drain.under_way != 1:
                await asyncio.sleep(0.005)
        drain.begin()
        # It would come back to another replica, with the last id that it saw.
        assert await drain.idle(5)
        events = events_of((await listening).text)
        assert {name for _, name, _ in events} <= {"queued", "running", "progress"}

    opened(test, jobs_open=False)
