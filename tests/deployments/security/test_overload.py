"""More than can be done: refused at once, and what was let in is done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from deployments.admission import Room
from reelsight.errors import Overloaded
from reelsight.steps import LoadedClip, load_clip

RAW = {"content-type": "image/png"}
FLAGS = {
    "engine.max_queued_frames": 8,
    "serve.max_requests": 24,
    "serve.max_waiting_clips": 16,
}


async def until(true: Any, seconds: float = 20.0) -> None:
    """Wait for a fact that no event tells."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.005)


def test_three_times_the_capacity(opened: Any, grey: bytes) -> None:
    async def run() -> None:
        async with opened(FLAGS, seconds_per_batch=0.2) as door:
            room: Room = door.api.state.room

            async def post() -> tuple[httpx.Response, float]:
                started = time.monotonic()
                answer = await door.client.post("/v1/tags", content=grey, headers=RAW)
                return answer, time.monotonic() - started

            async def offered(rate: float, seconds: float) -> list[tuple[httpx.Response, float]]:
                started = time.monotonic()
                posts: list[asyncio.Future[tuple[httpx.Response, float]]] = []
                while (gone := time.monotonic() - started) < seconds:
                    while len(posts) < rate * gone:
                        posts.append(asyncio.ensure_future(post()))
                    await asyncio.sleep(0.005)
                return await asyncio.gather(*posts)

            # A batch of all that may wait, every run of the engine.
            capacity = 8 / 0.2
            started = time.monotonic()
            answers = await offered(3 * capacity, 4.0)
            wall = time.monotonic() - started
            done = [a for a, _ in answers if a.status_code == 200]
            refused = [(a, s) for a, s in answers if a.status_code != 200]
            assert {a.status_code for a, _ in refused} == {503}
            assert {a.json()["code"] for a, _ in refused} <= {
                "serve.overloaded",
                "decode.overloaded",
                "engine.overloaded",
            }
            assert all(int(a.headers["retry-after"]) >= 1 for a, _ in refused)
            assert len(refused) > len(answers) / 2
            assert len(done) / wall >= 0.7 * capacity
            waits = np.array([s for _, s in refused])
            # A refusal takes 1 to 5 ms alone. Here client and server share a loop and its cores.
            assert np.median(waits) < 0.05
            assert np.percentile(waits, 99) < 0.5
            assert (room.requests, room.bytes) == (0, 0)
            again, seconds = await post()
            assert again.status_code == 200
            assert seconds < 5
            print(
                f"capacity {capacity:.0f}/s, goodput {len(done) / wall:.0f}/s, "
                f"{len(refused)} of {len(answers)} refused in p50 {np.median(waits) * 1e3:.1f} ms, "
                f"p99 {np.percentile(waits, 99) * 1e3:.1f} ms"
            )

    asyncio.run(run())


def test_a_full_replica_refuses_before_it_reads(opened: Any, grey: bytes) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield grey

    async def run() -> None:
        async with opened({"serve.max_requests": 2}) as door:
            door.engine.go.clear()
            held = [
                asyncio.ensure_future(door.client.post("/v1/tags", content=grey, headers=RAW))
                for _ in range(2)
            ]
            room: Room = door.api.state.room
            await until(lambda: room.requests == 2)
            answer = await door.client.post("/v1/tags", content=body(), headers=RAW)
            assert (answer.status_code, answer.json()["code"]) == (503, "serve.overloaded")
            assert read == 0
            assert (await door.client.get("/v1/models")).status_code == 200
            door.engine.go.set()
            assert [a.status_code for a in await asyncio.gather(*held)] == [200, 200]
            assert (room.requests, room.bytes) == (0, 0)

    asyncio.run(run())


def test_a_full_decode_lane_refuses_before_it_reads(
    opened: Any, grey: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield grey

    go = threading.Event()

    def held(*args: Any) -> LoadedClip:
        assert go.wait(60)
        return load_clip(*args)

    monkeypatch.setattr("deployments.decode_lane.load_clip", held)

    async def run() -> None:
        async with opened({"serve.decoders": 1, "serve.max_waiting_clips": 1}) as door:
            under_way = [
                asyncio.ensure_future(door.client.post("/v1/tags", content=grey, headers=RAW))
                for _ in range(2)
            ]
            room: Room = door.api.state.room
            await until(lambda: room.full)
            answer = await door.client.post("/v1/tags", content=body(), headers=RAW)
            assert (answer.status_code, answer.json()["code"]) == (503, "serve.overloaded")
            assert (read, room.requests) == (0, 2)
            go.set()
            assert [a.status_code for a in await asyncio.gather(*under_way)] == [200, 200]
            assert not room.full

    asyncio.run(run())


def test_bodies_are_bounded_together(opened: Any, grey: bytes) -> None:
    async def chunked() -> AsyncIterator[bytes]:
        yield grey[:50]
        yield grey[50:]

    async def run() -> None:
        async with opened({"serve.max_body_bytes": len(grey) + 40}) as door:
            door.engine.go.clear()
            post = door.client.post
            first = asyncio.ensure_future(post("/v1/tags", content=grey, headers=RAW))
            room: Room = door.api.state.room
            await until(lambda: room.bytes == len(grey))
            for second in (grey, chunked()):
                answer = await post("/v1/tags", content=second, headers=RAW)
                assert (answer.status_code, answer.json()["code"]) == (503, "serve.overloaded")
                assert room.bytes == len(grey)
            door.engine.go.set()
            assert (await first).status_code == 200
            assert (await post("/v1/tags", content=chunked(), headers=RAW)).status_code == 200
            assert (room.requests, room.bytes) == (0, 0)

    asyncio.run(run())


def test_the_room_says_when_to_come_back() -> None:
    room = Room(1, 100)
    room.enter(10)
    for seconds in [20.0] * 100:
        room.leave(10, seconds)
        room.enter(10)
    with pytest.raises(Overloaded) as full:
        room.enter(0)
    assert 15 < full.value.retry_after_s <= 30
    room.leave(10, 1.0)
    room.enter(10**9)
    assert room.bytes == 10**9, "one body alone always fits"


def test_a_bad_frame_fails_alone_in_its_batch(opened: Any, grey: bytes, white: bytes) -> None:
    async def run() -> None:
        async with opened() as door:
            door.engine.go.clear()
            post = door.client.post
            first = asyncio.ensure_future(post("/v1/tags", content=grey, headers=RAW))
            await until(door.engine.began.is_set)
            others = [
                asyncio.ensure_future(post("/v1/tags", content=data, headers=RAW))
                for data in (grey, white, grey)
            ]
            await until(lambda: door.host.queued_frames == 3)
            door.engine.go.set()
            assert (await first).status_code == 200
            answers = await asyncio.gather(*others)
            assert [a.status_code for a in answers] == [200, 422, 200]
            assert answers[1].json()["code"] == "engine.bad_input"
            assert len(door.engine.batches) >= 5, "one batch of three, then each alone"

    asyncio.run(run())


def test_a_client_that_leaves_frees_its_place(opened: Any, grey: bytes) -> None:
    async def run() -> None:
        async with opened({"serve.max_requests": 2}) as door:
            door.engine.go.clear()
            room: Room = door.api.state.room
            stays = asyncio.ensure_future(door.client.post("/v1/tags", content=grey, headers=RAW))
            await until(door.engine.began.is_set)
            hung_up, sent = asyncio.Event(), []
            messages = iter([{"type": "http.request", "body": grey, "more_body": False}])

            async def receive() -> dict[str, Any]:
                for message in messages:
                    return message
                await hung_up.wait()
                return {"type": "http.disconnect"}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/v1/tags",
                "query_string": b"",
                "headers": [
                    (b"content-type", b"image/png"),
                    (b"content-length", str(len(grey)).encode()),
                ],
                "client": ("127.0.0.1", 1),
            }
            leaves = asyncio.ensure_future(door.api(scope, receive, send))
            await until(lambda: door.host.queued_frames == 1)
            assert room.requests == 2
            hung_up.set()
            await leaves
            assert (room.requests, room.bytes) == (1, len(grey))
            assert sent[0]["status"] == 499
            door.engine.go.set()
            assert (await stays).status_code == 200
            await until(lambda: door.host.queued_frames == 0)
            assert len(door.engine.batches) == 1, "what nobody waits for is not run"

    asyncio.run(run())


@pytest.mark.parametrize("path", ["/v1/tags", "/v1/embeddings", "/v2/models/fake/infer"])
def test_a_client_that_leaves_while_it_sends_met_no_bug(
    opened: Any, grey: bytes, path: str
) -> None:
    sent: list[dict[str, Any]] = []

    async def run() -> None:
        async with opened() as door:
            messages: Iterator[dict[str, Any]] = iter(
                [
                    {"type": "http.request", "body": grey[:20], "more_body": True},
                    {"type": "http.disconnect"},
                ]
            )

            async def receive() -> dict[str, Any]:
                return next(messages)

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            scope = {
                "type": "http",
                "method": "POST",
                "path": path,
                "query_string": b"",
                "headers": [(b"content-type", b"image/png")],
                "client": ("127.0.0.1", 1),
            }
            await door.api(scope, receive, send)
            room: Room = door.api.state.room
            assert (room.requests, room.bytes) == (0, 0)

    asyncio.run(run())
    assert sent[0]["status"] == 499
    assert (b"reelsight-code", b"request.gone") in sent[0]["headers"]


def test_a_wedged_engine_turns_health_red(opened: Any, grey: bytes) -> None:
    async def run() -> None:
        async with opened({"serve.stall_s": 0.1, "serve.timeout_s": 5}) as door:
            get = door.client.get
            assert (await get("/healthz")).status_code == 200
            door.engine.go.clear()
            held = asyncio.ensure_future(door.client.post("/v1/tags", content=grey, headers=RAW))
            await until(door.engine.began.is_set)
            await until(lambda: door.host.stalled_s > 0.1)
            for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/models/fake/ready"):
                red = await get(path)
                assert (red.status_code, red.json()["code"]) == (503, "engine.wedged")
            late = await held
            assert (late.status_code, late.json()["code"]) == (503, "request.deadline")
            door.engine.go.set()
            await until(lambda: door.host.stalled_s == 0)
            assert (await get("/healthz")).status_code == 200

    asyncio.run(run())


def test_a_body_that_stops_coming_frees_its_place(opened: Any, grey: bytes) -> None:
    async def stops() -> AsyncIterator[bytes]:
        yield grey[:20]
        await asyncio.Event().wait()

    async def run() -> None:
        async with opened({"serve.body_timeout_s": 0.2}) as door:
            answer = await door.client.post("/v1/tags", content=stops(), headers=RAW)
            assert (answer.status_code, answer.json()["code"]) == (408, "request.slow_body")
            room: Room = door.api.state.room
            assert (room.requests, room.bytes) == (0, 0)

    asyncio.run(run())


def test_a_full_decode_lane_still_takes_what_needs_no_decoder(
    opened: Any, grey: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def held(*args: Any) -> LoadedClip:
        assert go.wait(60)
        return load_clip(*args)

    monkeypatch.setattr("deployments.decode_lane.load_clip", held)

    async def run() -> None:
        async with opened({"serve.decoders": 1, "serve.max_waiting_clips": 1}) as door:
            post, room = door.client.post, door.api.state.room
            under_way = [
                asyncio.ensure_future(post("/v1/tags", content=grey, headers=RAW)) for _ in range(2)
            ]
            await until(lambda: room.full)
            later = {**RAW, "prefer": "respond-async"}
            text = {"model": "fake", "input": "a cat"}
            for answer, status in (
                (await post("/v1/labels/publish", json={"bank": "none", "release": 0}), 404),
                (await post("/v1/jobs", content=grey, headers=RAW), 202),
                (await post("/v1/tags", content=grey, headers=later), 202),
                (await post("/v1/embeddings", json=text), 200),
                (await post("/v1/tags", content=grey, headers=RAW), 503),
            ):
                assert answer.status_code == status, answer.text
            go.set()
            await asyncio.gather(*under_way)

    asyncio.run(run())


def test_what_is_fetched_is_held_beside_the_bodies(opened: Any, grey: bytes) -> None:
    big = grey + bytes(5000)

    class Web:
        async def fetch(self, uri: str) -> bytes:
            del uri
            return big

    async def run() -> None:
        flags = {"serve.max_body_bytes": len(big) + 2000}
        async with opened(flags, web=Web()) as door:
            post, room = door.client.post, door.api.state.room
            door.engine.go.clear()
            asked = {"uri": "https://clips.example.com/a.png"}
            first = asyncio.ensure_future(post("/v1/tags", json=asked))
            await until(door.engine.began.is_set)
            assert room.bytes > len(big)
            second = await post("/v1/tags", json=asked)
            assert (second.status_code, second.json()["code"]) == (503, "serve.overloaded")
            door.engine.go.set()
            assert (await first).status_code == 200
            assert (room.requests, room.bytes) == (0, 0)

    asyncio.run(run())
