"""A door that closes: in this process, and through Serve."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest

from deployments.drain import Drain, Draining
from deployments.run import drain, serving
from reelsight.keyring import add_key
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings

RAW = {"content-type": "image/png"}


def test_what_is_under_way_is_finished_and_what_comes_is_refused(opened: Any, grey: bytes) -> None:
    async def run() -> None:
        async with opened() as door:
            closing: Drain = door.api.state.drain
            get, post = door.client.get, door.client.post
            open_ = await get("/readyz")
            assert (open_.status_code, "connection" in open_.headers) == (200, False)
            door.engine.go.clear()
            first = asyncio.ensure_future(post("/v1/tags", content=grey, headers=RAW))
            await asyncio.to_thread(door.engine.began.wait)
            closing.begin()
            for path in ("/readyz", "/v2/health/ready"):
                ready = await get(path)
                assert (ready.status_code, ready.json()["code"]) == (503, "serve.draining")
            for path in ("/healthz", "/v2/health/live", "/metrics"):
                assert (await get(path)).status_code == 200
            for refused in (
                await post("/v1/tags", content=grey, headers=RAW),
                await get("/v1/models"),
            ):
                assert (refused.status_code, refused.json()["code"]) == (503, "serve.draining")
                assert refused.headers["connection"] == "close"
                assert refused.headers["retry-after"] == "1"
            assert not await closing.idle(0.01)
            door.engine.go.set()
            answer = await first
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert await closing.idle(5)
            with pytest.raises(Draining):
                closing.enter()

    asyncio.run(run())


@pytest.mark.usefixtures("ray_cluster")
def test_serve_drains_and_asks_for_keys(
    free_port: int, samples: list[SampleClip], tmp_path: Any
) -> None:
    key, _ = add_key(tmp_path / "keys.yaml", "tagger", ["tags"])
    flags = {
        "engine.backend": "fake",
        "serve.port": free_port,
        "serve.decoders": 1,
        "serve.keys_file": str(tmp_path / "keys.yaml"),
    }
    clip = samples[0].path.read_bytes()
    answers: list[httpx.Response] = []
    settings = Settings.load(None, flags)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=120) as client:

        def post(headers: dict[str, str]) -> httpx.Response:
            return httpx.post(f"{url}/v1/tags", files={"file": clip}, headers=headers, timeout=120)

        assert post({}).status_code == 401
        assert client.get("/readyz").status_code == 200
        under_way = [
            threading.Thread(target=lambda: answers.append(post({"x-api-key": key})))
            for _ in range(4)
        ]
        for thread in under_way:
            thread.start()
        for thread in under_way:
            thread.join()
        assert [a.status_code for a in answers] == [200] * 4
        assert drain(30)
        assert client.get("/readyz").json()["code"] == "serve.draining"
        refused = post({"x-api-key": key})
        assert (refused.status_code, refused.json()["code"]) == (503, "serve.draining")
