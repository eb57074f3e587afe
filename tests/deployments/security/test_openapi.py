"""The OpenAPI document is the one that is committed, and what it allows is answered."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest

from deployments.openapi import COMMITTED, openapi_text

RETRYABLE = {"request.deadline", "decode.deadline", "engine.deadline"}


def test_the_committed_document_is_true_to_the_routes() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == openapi_text(), (
        "run `python -m scripts.openapi --write`"
    )


def test_the_environment_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELSIGHT_SERVE__TIMEOUT_S", "1")
    monkeypatch.setenv("REELSIGHT_SERVE__KEYS_FILE", "/nowhere/keys.yaml")
    assert COMMITTED.read_text(encoding="utf-8") == openapi_text()


def test_every_operation_says_who_may_ask() -> None:
    document = json.loads(openapi_text())
    tags = document["paths"]["/v1/tags"]["post"]
    assert (tags["security"], tags["x-scope"]) == ([{"bearer": []}, {"apiKey": []}], "tags")
    assert document["paths"]["/healthz"]["get"]["security"] == []


@pytest.mark.filterwarnings("ignore::Warning:schemathesis", "ignore::Warning:hypothesis")
def test_generated_requests_meet_no_error_of_ours(opened: Any) -> None:
    schemathesis: Any = pytest.importorskip("schemathesis")
    hypothesis: Any = pytest.importorskip("hypothesis")
    requests: Any = pytest.importorskip("requests")

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def on_loop(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    context = opened()
    door = on_loop(context.__aenter__())
    sent = 0

    async def send(prepared: Any) -> httpx.Response:
        request = httpx.Request(
            prepared.method,
            prepared.url,
            headers=[(k, v) for k, v in prepared.headers.items()],
            content=prepared.body or b"",
        )
        answer: httpx.Response = await door.client.send(request)
        return answer

    def ask(case: Any) -> None:
        nonlocal sent
        kwargs = case.as_transport_kwargs(base_url="http://door")
        kwargs = {k: v for k, v in kwargs.items() if k in FIELDS}
        try:
            prepared = requests.Request(**kwargs).prepare()
        except (requests.RequestException, UnicodeError):
            return  # No request of HTTP can be made of it.
        answer = on_loop(send(prepared))
        sent += 1
        if answer.status_code >= 500:
            assert answer.json()["code"] in RETRYABLE, (prepared.url, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"

    try:
        schema = schemathesis.openapi.from_dict(json.loads(openapi_text()))
        for result in schema.get_all_operations():
            for mode in (
                schemathesis.GenerationMode.POSITIVE,
                schemathesis.GenerationMode.NEGATIVE,
            ):
                try:
                    strategy = result.ok().as_strategy(generation_mode=mode)
                    run: Any = hypothesis.settings(
                        max_examples=40,
                        deadline=None,
                        derandomize=True,
                        database=None,
                        suppress_health_check=list(hypothesis.HealthCheck),
                    )(hypothesis.given(strategy)(ask))
                    run()
                except hypothesis.errors.Unsatisfiable:
                    # An operation without parameters has no wrong ones.
                    assert mode is schemathesis.GenerationMode.NEGATIVE
    finally:
        on_loop(context.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    assert sent > 100


FIELDS = {"method", "url", "headers", "files", "data", "params", "auth", "cookies", "json"}
