"""What Serve is told of the ingress: when it lives, and how much it takes at a time."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from deployments.app import build_app
from deployments.jobs.stream import STREAMS
from deployments.routes.health import Wedged
from reelsight.settings import Settings
from tests.deployments.security.test_overload import RAW, until


def ingress(topology: str) -> Any:
    flags = {"engine.backend": "fake", "serve.topology": topology}
    return build_app(Settings.load(None, flags))._bound_deployment


@pytest.mark.parametrize("topology", ["single", "split"])
def test_serve_replaces_a_replica_whose_own_engine_is_wedged(
    opened: Any, grey: bytes, topology: str
) -> None:
    check = ingress(topology).func_or_class.check_health

    async def run() -> None:
        async with opened({"serve.stall_s": 0.1, "serve.timeout_s": 5}) as door:
            replica = SimpleNamespace(app=door.api)
            await check(replica)
            door.engine.go.clear()
            held = asyncio.ensure_future(door.client.post("/v1/tags", content=grey, headers=RAW))
            await until(lambda: door.host.stalled_s > 0.1)
            if topology == "single":
                with pytest.raises(Wedged):
                    await check(replica)
            else:  # The engine's own replica is replaced; to end this one too mends nothing.
                await check(replica)
            door.engine.go.set()
            await held

    asyncio.run(run())


@pytest.mark.parametrize("topology", ["single", "split"])
def test_who_listens_to_jobs_takes_no_requests_place(topology: str) -> None:
    at_once = ingress(topology).max_ongoing_requests
    assert at_once > Settings.load(None, {}).serve.max_requests + STREAMS


def test_a_wedged_engine_does_not_keep_an_inference_past_its_deadline(opened: Any) -> None:
    body = {
        "inputs": [
            {
                "name": "pixels",
                "shape": [1, 64, 64, 3],
                "datatype": "UINT8",
                "data": [0] * (64 * 64 * 3),
            }
        ]
    }

    async def run() -> None:
        async with opened({"serve.timeout_s": 0.2}) as door:
            door.engine.go.clear()
            late = await asyncio.wait_for(door.client.post("/v2/models/fake/infer", json=body), 10)
            assert (late.status_code, late.json()["code"]) == (503, "request.deadline")
            door.engine.go.set()

    asyncio.run(run())
