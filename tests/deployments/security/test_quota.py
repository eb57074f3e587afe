"""Frames are what is counted: guessed before decoding, settled after."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from deployments.security.quota import CALLER, Caller, TokenBucket, TooManyFrames, charged
from reelsight.errors import Overloaded, RequestError
from reelsight.keyring import add_key
from reelsight.samples.clips import SampleClip


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_fills_evenly_and_holds_a_minute() -> None:
    clock = Clock()
    bucket = TokenBucket(60, clock)
    assert bucket.wait_s(60) == 0
    bucket.take(60)
    assert bucket.wait_s(1) == pytest.approx(1)
    clock.now = 30
    assert bucket.wait_s(30) == 0
    assert bucket.wait_s(40) == pytest.approx(10)
    assert bucket.wait_s(6000) == pytest.approx(30), "a full bucket lets anything in"
    clock.now = 3000
    assert bucket.wait_s(60) == 0
    bucket.take(60)
    assert bucket.wait_s(60) == pytest.approx(60)


def test_a_charge_is_settled_refunded_or_kept() -> None:
    clock = Clock()
    bucket = TokenBucket(60, clock)
    scope = {CALLER: Caller(None, (bucket,))}

    def left() -> float:
        return 60 - bucket.wait_s(60)

    with charged(scope, 20) as bill:
        assert left() == pytest.approx(40)
        bill.settle(5)
    assert left() == pytest.approx(55)
    with pytest.raises(Overloaded), charged(scope, 20):
        raise Overloaded("full")
    assert left() == pytest.approx(55)
    with pytest.raises(asyncio.CancelledError), charged(scope, 20):
        raise asyncio.CancelledError
    assert left() == pytest.approx(35)
    with pytest.raises(RequestError), charged(scope, 5):
        raise RequestError("gone", status=499)
    assert left() == pytest.approx(30)
    with charged(scope, 30) as bill:
        bill.settle(90)
    with pytest.raises(TooManyFrames) as debt, charged(scope, 1):
        pass
    assert debt.value.retry_after_s == pytest.approx(61)
    with charged({}, 10**6) as bill:
        bill.settle(10**7)


def test_who_was_in_a_hurry_has_paid() -> None:
    bucket = TokenBucket(60, lambda: 0.0)
    scope = {CALLER: Caller(None, (bucket,))}
    for hurried, code, left in (
        (False, "request.deadline", 60),
        (True, "engine.overloaded", 60),
        (True, "request.deadline", 50),
    ):
        with pytest.raises(Overloaded), charged(scope, 10, hurried=hurried):
            raise Overloaded("late", code=code)
        bucket.take(0)
        assert bucket.wait_s(left) == 0
        assert bucket.wait_s(left + 1) > 0 or left == 60


def test_a_caller_beyond_its_frames_is_told_when_to_come_back(
    opened: Any, tmp_path: Path, grey: bytes, samples: list[SampleClip]
) -> None:
    keys = tmp_path / "keys.yaml"
    small, _ = add_key(keys, "small", ["tags"], 6)
    large, _ = add_key(keys, "large", ["tags"], 6000)
    clip = samples[0].path.read_bytes()

    async def run() -> None:
        async with opened({"serve.keys_file": str(keys), "serve.reserve_frames": 4}) as door:

            async def post(key: str, data: bytes, query: str = "") -> Any:
                headers = {"x-api-key": key, "content-type": "application/octet-stream"}
                return await door.client.post(f"/v1/tags{query}", content=data, headers=headers)

            stills = [await post(small, grey, "?sampling=count:1") for _ in range(6)]
            assert [answer.status_code for answer in stills] == [200] * 6
            refused = await post(small, grey, "?sampling=count:1")
            body = refused.json()
            assert (refused.status_code, body["code"]) == (429, "quota.frames")
            assert body["retryable"]
            assert 1 <= int(refused.headers["retry-after"]) <= 11
            ok = await post(large, clip)
            assert ok.status_code == 200
            assert len(ok.json()["frames"]) >= 1

    asyncio.run(run())


def test_all_callers_together_are_bounded_too(opened: Any, grey: bytes) -> None:
    async def run() -> None:
        flags = {"serve.frames_per_minute": 2, "serve.reserve_frames": 1}
        async with opened(flags) as door:
            raw = {"content-type": "image/png"}
            read = 0

            async def body() -> AsyncIterator[bytes]:
                nonlocal read
                read += 1
                yield grey

            codes = [
                (await door.client.post("/v1/tags", content=grey, headers=raw)).status_code
                for _ in range(3)
            ]
            assert codes == [200, 200, 429]
            unread = await door.client.post("/v1/tags", content=body(), headers=raw)
            assert (unread.status_code, read) == (429, 0)
            assert (await door.client.get("/v1/models")).status_code == 200

    asyncio.run(run())


def test_pictures_and_rows_are_frames_and_texts_are_none(
    opened: Any, tmp_path: Path, grey: bytes
) -> None:
    keys = tmp_path / "keys.yaml"
    key, _ = add_key(keys, "a", ["embeddings"], 6)
    shown = {"image": base64.b64encode(grey).decode()}
    rows = {"name": "pixels", "datatype": "UINT8", "shape": [2, 64, 64, 3]}
    frames = {"inputs": [{**rows, "data": [7] * (2 * 64 * 64 * 3)}]}

    async def run() -> None:
        async with opened({"serve.keys_file": str(keys)}) as door:

            async def post(path: str, body: dict[str, Any]) -> tuple[int, Any]:
                answer = await door.client.post(path, json=body, headers={"x-api-key": key})
                return answer.status_code, answer.json()

            async def embed(*inputs: Any) -> tuple[int, Any]:
                return await post("/v1/embeddings", {"model": "fake", "input": inputs})

            assert (await embed(*["a text"] * 20))[0] == 200
            assert (await embed("a text", shown, shown))[0] == 200
            assert (await post("/v2/models/fake/infer", frames))[0] == 200
            status, told = await embed(shown, shown, shown)
            assert (status, told["error"]["code"]) == (429, "quota.frames")
            assert (await embed(shown, shown))[0] == 200
            status, told = await post("/v2/models/fake/infer", frames)
            assert (status, told["code"]) == (429, "quota.frames")

    asyncio.run(run())


def test_a_client_in_a_hurry_decodes_nothing_for_free(
    opened: Any, tmp_path: Path, grey: bytes
) -> None:
    keys = tmp_path / "keys.yaml"
    key, _ = add_key(keys, "a", ["tags"], 6)
    headers = {"x-api-key": key, "content-type": "image/png"}

    async def run() -> None:
        flags = {"serve.keys_file": str(keys), "serve.reserve_frames": 4}
        async with opened(flags) as door:
            door.engine.go.clear()
            codes = []
            for _ in range(2):
                path = "/v1/tags?timeout_ms=300"
                late = await door.client.post(path, content=grey, headers=headers)
                codes.append(late.json()["code"])
            door.engine.go.set()
            assert codes[0].endswith(".deadline")
            assert codes[1] == "quota.frames"

    asyncio.run(run())
