"""Keys at the door: who is let in, to what, and how soon a change of the file counts."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.openapi import openapi_text
from deployments.security.gate import KeyFile
from deployments.security.listening import pinned_keys, require_keys_beyond_loopback
from deployments.security.scopes import ANY_KEY, PUBLIC, needed_scope
from reelsight.errors import ConfigError
from reelsight.keyring import SCOPES, Keyring, add_key, load_keyring, revoke_key
from reelsight.settings import Settings

RAW = {"content-type": "image/png"}


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def code(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["hint"]
    return str(body["code"])


def test_a_key_is_kept_as_a_hash_alone(keys_file: Path) -> None:
    key, entry = add_key(keys_file, "uploader", ["tags", "tags"], 600)
    text = keys_file.read_text()
    assert key not in text
    assert key.split("_", 2)[2] not in text
    assert keys_file.stat().st_mode & 0o777 == 0o600
    ring = load_keyring(keys_file)
    assert ring.match(key) == entry
    assert entry.scopes == ("tags",)
    assert entry.may("tags")
    assert not entry.may("admin")
    with pytest.raises(ConfigError) as taken:
        add_key(keys_file, "uploader", ["tags"])
    assert taken.value.code == "keys.name_taken"
    revoke_key(keys_file, entry.id)
    assert load_keyring(keys_file).match(key) is None
    with pytest.raises(ConfigError) as unknown:
        revoke_key(keys_file, "uploader")
    assert unknown.value.code == "keys.unknown"


def test_a_text_that_is_not_the_key_is_nobodys(keys_file: Path) -> None:
    key, entry = add_key(keys_file, "a", ["admin"])
    other, _ = add_key(keys_file, "b", ["tags"])
    ring = load_keyring(keys_file)
    swapped = f"rs_{entry.id}_{other.split('_', 2)[2]}"
    for text in (
        "",
        "rs_",
        key[:-1],
        key + "x",
        key.upper(),
        " " + key,
        swapped,
        entry.id,
        entry.sha256,
        f"rs_{entry.id}_",
        "\ud800",
        "\x00",
        "x" * 100_000,
        key + "\n",
    ):
        assert ring.match(text) is None
    assert Keyring().match(key) is None


@pytest.mark.parametrize(
    "text",
    [
        "keys: 3",
        "[]",
        "keys: [{}]",
        "keys: [{id: x}]",
        "nonsense: 1",
        "{",
        "\x00",
        "keys: [{id: '0123456789ab', name: a, sha256: secret-words, scopes: [tags]}]",
        f"keys: [{{id: '0123456789ab', name: a, sha256: '{'0' * 64}', scopes: [root]}}]",
        f"keys: [{{id: '0123456789ab', name: a, sha256: '{'0' * 64}', scopes: []}}]",
        f"keys: [{', '.join([f'{{id: 0123456789ab, name: a, sha256: {chr(97) * 64}, scopes: [tags]}}'] * 2)}]",  # noqa: E501
        "!!python/object/apply:os.system ['true']",
    ],
    ids=range(12),
)
def test_a_file_that_is_no_list_of_keys_is_refused(keys_file: Path, text: str) -> None:
    keys_file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_keyring(keys_file)
    assert refused.value.code == "keys.invalid"
    assert "secret-words" not in refused.value.message


def test_json_is_read_too(keys_file: Path) -> None:
    key, entry = add_key(keys_file, "a", ["tags"])
    keys_file.write_text(json.dumps({"keys": [entry.model_dump(mode="json")]}))
    assert load_keyring(keys_file).match(key) == entry


def test_the_door_with_keys(opened: Any, keys_file: Path, grey: bytes) -> None:
    tagger, _ = add_key(keys_file, "tagger", ["tags"])
    reader, _ = add_key(keys_file, "reader", ["labels:read"])
    admin, _ = add_key(keys_file, "admin", ["admin"])

    async def run() -> None:
        async with opened({"serve.keys_file": str(keys_file)}) as door:
            post, get = door.client.post, door.client.get
            for path in ("/healthz", "/readyz"):
                assert (await get(path)).status_code == 200
            missing = await post("/v1/tags", content=grey, headers=RAW)
            assert code(missing, 401) == "auth.missing"
            assert missing.headers["www-authenticate"] == "Bearer"
            for bad in (
                {"authorization": tagger},
                {"authorization": f"Basic {tagger}"},
                {"authorization": "Bearer"},
                bearer(tagger[:-1]),
                bearer(f"{tagger} {tagger}"),
                {"x-api-key": "\u00e9".encode("latin-1")},
                {**bearer(tagger), "x-api-key": admin},
            ):
                answer = await post("/v1/tags", content=grey, headers={**RAW, **bad})
                assert code(answer, 401) == "auth.unknown"
                assert tagger not in answer.text
            scopeless = await post("/v1/tags", content=grey, headers={**RAW, **bearer(reader)})
            assert code(scopeless, 403) == "auth.scope"
            for good in (bearer(tagger), {"x-api-key": tagger}, bearer(admin)):
                answer = await post("/v1/tags", content=grey, headers={**RAW, **good})
                assert answer.status_code == 200, answer.text
            assert code(await get("/v1/models"), 401) == "auth.missing"
            assert (await get("/v1/models", headers=bearer(reader))).status_code == 200
            assert code(await get("/nowhere"), 401) == "auth.missing"
            assert code(await get("/nowhere", headers=bearer(tagger)), 403) == "auth.scope"
            assert code(await get("/nowhere", headers=bearer(admin)), 404) == "request.no_route"
            elsewhere = await post("/v1//tags", content=grey, headers={**RAW, **bearer(tagger)})
            assert code(elsewhere, 403) == "auth.scope"

    asyncio.run(run())


def test_what_is_refused_is_counted_and_names_its_code(
    opened: Any, keys_file: Path, grey: bytes
) -> None:
    tagger, _ = add_key(keys_file, "tagger", ["tags"])
    admin, _ = add_key(keys_file, "admin", ["admin"])

    async def run() -> None:
        async with opened({"serve.keys_file": str(keys_file)}) as door:
            post, get = door.client.post, door.client.get
            stranger = await post("/v1/tags", content=grey, headers=RAW)
            assert stranger.headers["reelsight-code"] == "auth.missing"
            assert stranger.headers["x-request-id"] == stranger.json()["request_id"]
            told = await post("/v1/tags", content=grey, headers={**RAW, **bearer(tagger)})
            assert told.status_code == 200
            openai = (await post("/v1/embeddings", json={})).json()
            assert openai["error"]["code"] == openai["code"] == "auth.missing"
            triton = (await post("/v2/models/fake/infer", json={})).json()
            assert triton["error"] == triton["detail"]
            assert code(await get("/metrics"), 401) == "auth.missing"
            assert code(await get("/metrics", headers=bearer(tagger)), 403) == "auth.scope"
            lines = (await get("/metrics", headers=bearer(admin))).text.splitlines()

            def count(name: str, *labels: str) -> float:
                return sum(
                    float(line.rpartition(" ")[2])
                    for line in lines
                    if line.startswith(name + "{") and all(label in line for label in labels)
                )

            assert count("reelsight_rejects_total", 'code="auth.missing"') == 4
            assert count("reelsight_rejects_total", 'code="auth.scope"') == 1
            name = "reelsight_request_seconds_count"
            assert count(name, 'route="/v1/tags"', 'status="200"') == 1
            assert count(name, 'status="401"') == 4

    asyncio.run(run())


def test_a_stranger_is_refused_before_its_body_is_read(opened: Any, keys_file: Path) -> None:
    add_key(keys_file, "a", ["tags"])
    read = 0

    async def run() -> None:
        async with opened({"serve.keys_file": str(keys_file)}) as door:
            scope = {
                "type": "http",
                "method": "POST",
                "path": "/v1/tags",
                "query_string": b"",
                "headers": [(b"content-type", b"video/mp4")],
            }

            async def receive() -> dict[str, Any]:
                nonlocal read
                read += 1
                return {"type": "http.request", "body": b"x", "more_body": True}

            sent: list[dict[str, Any]] = []

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            await door.api(scope, receive, send)
            assert sent[0]["status"] == 401

    asyncio.run(run())
    assert read == 0


def test_without_keys_only_loopback_is_answered(opened: Any) -> None:
    async def ask(client: str) -> httpx.Response:
        async with opened(client=client) as door:
            answer: httpx.Response = await door.client.get("/v1/models")
            return answer

    assert code(asyncio.run(ask("192.0.2.7")), 403) == "auth.loopback_only"
    assert asyncio.run(ask("127.0.0.1")).status_code == 200
    assert asyncio.run(ask("::1")).status_code == 200


def test_without_keys_no_page_of_elsewhere_is_answered(opened: Any, keys_file: Path) -> None:
    key, _ = add_key(keys_file, "a", ["labels:write"])
    asked = {"bank": "x", "release": 0}

    async def run() -> None:
        async with opened() as door:
            for origin, status in (
                ("https://example.com", 403),
                ("http://localhost.example.com:8100", 403),
                ("http://127.0.0.1.example.com", 403),
                ("null", 403),
                ("http://localhost:3000", 404),
                ("http://127.0.0.1:8100", 404),
                ("http://[::1]", 404),
            ):
                # As a form or fetch() sends it without asking first.
                headers = {"origin": origin, "content-type": "text/plain"}
                post = door.client.post
                answer = await post("/v1/labels/publish", json=asked, headers=headers)
                assert code(answer, status) == ("auth.origin" if status == 403 else "bank.missing")
        async with opened({"serve.keys_file": str(keys_file)}) as door:
            headers = {"origin": "https://example.com", **bearer(key)}
            answer = await door.client.post("/v1/labels/publish", json=asked, headers=headers)
            assert code(answer, 404) == "bank.missing"

    asyncio.run(run())


def test_a_change_of_the_file_counts(keys_file: Path) -> None:
    key, entry = add_key(keys_file, "a", ["tags"])
    watched = KeyFile(keys_file, poll_s=0)
    assert watched.ring.match(key) == entry
    other, _ = add_key(keys_file, "b", ["tags"])
    assert watched.ring.match(other) is not None
    revoke_key(keys_file, "a")
    assert watched.ring.match(key) is None
    keys_file.write_text("keys: [")
    assert watched.ring.match(other) is not None, "a file half written takes nobody's key away"
    keys_file.unlink()
    assert watched.ring.match(other) is None
    back, _ = add_key(keys_file, "c", ["tags"])
    assert watched.ring.match(back) is not None


def test_the_file_is_not_looked_at_for_each_request(
    keys_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_key(keys_file, "a", ["tags"])
    watched = KeyFile(keys_file, poll_s=3600)
    keys_file.unlink()
    assert len(watched.ring) == 1


def test_beyond_loopback_keys_are_wanted(tmp_path: Path) -> None:
    bare = Settings.load(None, {"data_dir": str(tmp_path)})
    for host in ("127.0.0.1", "::1", "localhost", "127.8.8.8"):
        require_keys_beyond_loopback(bare, host)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com", "", "localhost.evil.org"):
        with pytest.raises(ConfigError) as refused:
            require_keys_beyond_loopback(bare, host)
        assert refused.value.code == "config.open_door"
    assert pinned_keys(bare) == bare
    named = Settings.load(None, {"serve.keys_file": str(tmp_path / "none.yaml")})
    with pytest.raises(ConfigError) as missing:
        require_keys_beyond_loopback(named, "127.0.0.1")
    assert missing.value.code == "keys.missing"
    add_key(bare.keys_file, "a", ["tags"])
    require_keys_beyond_loopback(bare, "0.0.0.0")
    pinned = pinned_keys(bare)
    assert pinned.serve.keys_file == tmp_path / "keys.yaml"
    os.unlink(bare.keys_file)
    with pytest.raises(ConfigError):
        require_keys_beyond_loopback(pinned, "127.0.0.1")


def test_every_route_says_which_scope_it_needs() -> None:
    paths: dict[str, dict[str, Any]] = json.loads(openapi_text())["paths"]
    assert {"/v1/tags", "/healthz"} <= set(paths)
    known = {*SCOPES, PUBLIC, ANY_KEY} - {"admin"}
    for path, operations in paths.items():
        for method in operations:
            if path != "/metrics":
                assert needed_scope(method.upper(), path) in known, (method, path)


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/healthz", PUBLIC),
        ("POST", "/healthz", "admin"),
        ("GET", "/healthz/", "admin"),
        ("GET", "/healthz\n", "admin"),
        ("POST", "/v1/tags", "tags"),
        ("POST", "/v1/tags/", "admin"),
        ("POST", "/v1/embeddings", "embeddings"),
        ("POST", "/v2/models/m/infer", "embeddings"),
        ("POST", "/v2/models/m/versions/1/infer", "embeddings"),
        ("POST", "/v2/models/arch/weights/versions/1/infer", "embeddings"),
        ("POST", "/v2/models/m", "admin"),
        ("POST", "/v2/repository/index", "admin"),
        ("GET", "/v2", ANY_KEY),
        ("GET", "/v2/models/m/ready", ANY_KEY),
        ("GET", "/v2/models/arch/weights/versions/1", ANY_KEY),
        ("GET", "/v2/health/live", PUBLIC),
        ("GET", "/v1/labels/x", "labels:read"),
        ("PUT", "/v1/labels/x", "labels:write"),
        ("POST", "/v1/labels/x/publish", "labels:write"),
        ("GET", "/v1/jobs/x/events", "jobs"),
        ("GET", "/metrics", "admin"),
        ("GET", "/v1/labelsx", "admin"),
    ],
)
def test_scopes(method: str, path: str, scope: str) -> None:
    assert needed_scope(method, path) == scope
