"""POST /v1/embeddings: OpenAI's own client, real pictures, the shipped model and the fake one."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from deployments.app import single_api
from engines.catalog import recipe_for
from reelsight.engine import EngineHost, EngineRecipe
from reelsight.media.limits import MediaLimits
from reelsight.media.sampler import Sampling
from reelsight.media.stills import decode_still
from reelsight.plan import TaggingPlan, plan_for
from reelsight.settings import Settings
from tests.deployments.doors import asking, listening

Ask = Callable[[httpx.AsyncClient], Awaitable[None]]


def picture(shade: int = 0, kind: str = "PNG") -> bytes:
    drawn = np.zeros((48, 64, 3), np.uint8)
    drawn[:, :32] = (200, shade, 30)
    drawn[24:, 32:] = (shade, 90, 220)
    out = io.BytesIO()
    Image.fromarray(drawn).save(out, kind)
    return out.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def shipped(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[openai.OpenAI, EngineRecipe]]:
    """OpenAI's client of a server with the shipped model."""
    settings = Settings.load(None, {"bank": None, "data_dir": tmp_path_factory.mktemp("data")})
    recipe = recipe_for(settings)
    api = single_api(recipe, plan_for(recipe, settings), settings)
    with (
        listening(api) as address,
        openai.OpenAI(base_url=f"http://{address}/v1", api_key="-", max_retries=0) as client,
    ):
        yield client, recipe


@pytest.fixture
def asked(fake_recipe: EngineRecipe, fake_plan: TaggingPlan) -> Callable[..., None]:
    """Runs questions to a door with the fake engine."""

    def run(ask: Ask, **flags: Any) -> None:
        named = {name.replace("__", "."): value for name, value in flags.items()}
        settings = Settings.load(None, {"engine.backend": "fake", **named})

        async def whole() -> None:
            async with asking(single_api(fake_recipe, fake_plan, settings)) as client:
                await ask(client)

        asyncio.run(whole())

    return run


def test_openais_client_gets_the_text_towers_vectors(
    shipped: tuple[openai.OpenAI, EngineRecipe],
) -> None:
    client, recipe = shipped
    texts = ["a photo of a cat", "a QR code on a screen", "眠い猫 🎬"]
    tower = recipe.open_text()
    expected = tower.embed_text(texts)
    model = recipe.spec.model
    # The client asks for base64 by itself and unpacks it.
    packed = client.embeddings.create(model=model, input=texts)
    plain = client.embeddings.create(model=model, input=texts, encoding_format="float")
    for answer in (packed, plain):
        assert (answer.object, answer.model) == ("list", model)
        assert [each.index for each in answer.data] == [0, 1, 2]
        rows = np.array([each.embedding for each in answer.data], np.float32)
        np.testing.assert_allclose(rows, expected, atol=1e-6)
        assert answer.usage.prompt_tokens == sum(tower.count_tokens(texts))
        assert answer.usage.total_tokens == answer.usage.prompt_tokens
    one = client.embeddings.create(model=model, input=texts[0], dimensions=recipe.spec.dim)
    np.testing.assert_allclose(one.data[0].embedding, expected[0], atol=1e-6)


def test_pictures_by_the_same_client_are_those_of_the_engine(
    shipped: tuple[openai.OpenAI, EngineRecipe],
) -> None:
    client, recipe = shipped
    jpeg, png, webp = picture(9, "JPEG"), picture(9), picture(77, "WEBP")
    mixed: Any = [
        "data:image/jpeg;base64," + b64(jpeg),
        "a cat",
        {"image": b64(png)},
        {"image": "data:application/octet-stream;base64," + b64(webp)},
        {"text": "a cat"},
    ]
    answer = client.embeddings.create(model=recipe.spec.model, input=mixed)
    rows = np.array([each.embedding for each in answer.data], np.float32)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)
    assert answer.usage.model_dump()["pictures"] == 3
    host = EngineHost(recipe.open_engine())
    for row, data in zip(rows[[0, 2, 3]], (jpeg, png, webp), strict=True):
        _, frames = decode_still("a", "b:", data, Sampling(), recipe.spec.geometry, MediaLimits())
        # The bucket that a frame runs in moves its last bits.
        np.testing.assert_allclose(row, host.run(frames.pixels)[0], atol=1e-5)
    host.close()
    np.testing.assert_allclose(rows[1], rows[4], atol=1e-6)
    alone = client.embeddings.create(model=recipe.spec.model, input=[mixed[3]])
    np.testing.assert_allclose(alone.data[0].embedding, rows[3], atol=1e-5)


def test_openais_client_raises_its_own_errors_with_our_words(
    shipped: tuple[openai.OpenAI, EngineRecipe],
) -> None:
    client, recipe = shipped
    with pytest.raises(openai.NotFoundError, match="no model 'text-embedding-3-small'") as missing:
        client.embeddings.create(model="text-embedding-3-small", input="x")
    assert missing.value.code == "request.no_model"
    with pytest.raises(openai.UnprocessableEntityError, match="dimensions, not 7") as cut:
        client.embeddings.create(model=recipe.spec.model, input="x", dimensions=7)
    assert cut.value.type == "invalid_request_error"


def test_pictures_have_the_rows_of_their_tags(
    asked: Callable[..., None], fake_recipe: EngineRecipe
) -> None:
    engine, tower = fake_recipe.open_engine(), fake_recipe.open_text()

    async def ask(client: httpx.AsyncClient) -> None:
        shades = list(range(0, 250, 5))
        inputs = [{"image": b64(picture(shade))} for shade in shades]
        inputs[3:3] = [{"text": "in between"}]
        answer = await client.post("/v1/embeddings", json={"model": "fake", "input": inputs})
        assert answer.status_code == 200, answer.text
        assert answer.headers["reelsight-engine"] == engine.spec.hash
        rows = np.array([each["embedding"] for each in answer.json()["data"]], np.float32)
        np.testing.assert_array_equal(rows[3:4], tower.embed_text(["in between"]))
        kept = np.delete(rows, 3, axis=0)
        assert len(np.unique(kept, axis=0)) == len(shades)
        for row, shade in zip(kept, shades, strict=True):
            alone = await client.post(
                "/v1/embeddings",
                json={"model": "fake", "input": {"image": b64(picture(shade))}},
            )
            assert alone.json()["data"][0]["embedding"] == row.tolist()

    # More pictures than may wait: a request does not crowd itself out.
    asked(ask, serve__max_waiting_clips=1, serve__decoders=2)


def _bad_inputs() -> list[tuple[Any, int, str]]:
    clip = {"image": b64(b"\x00\x00\x00\x18ftypisom" + bytes(64))}
    torn = {"image": b64(picture(1, "JPEG")[:-60])}
    return [
        ([], 422, "request.inputs"),
        (["x"] * 9, 422, "request.inputs"),
        ("", 422, "request.text"),
        (" \n", 422, "request.text"),
        (["fine", ""], 422, "request.text"),
        ("x" * 201, 422, "request.text"),
        ([1, 2, 3], 422, "request.schema"),
        ([[1, 2], [3]], 422, "request.schema"),
        (None, 422, "request.schema"),
        ({"image": "x", "text": "y"}, 422, "request.schema"),
        ({"video": "x"}, 422, "request.schema"),
        ({"image": "not base64!"}, 422, "request.base64"),
        ({"image": "aGk"}, 422, "request.base64"),
        ({"image": "é"}, 422, "request.base64"),
        ({"image": ""}, 422, "request.empty"),
        ("data:image/png;base64,", 422, "request.empty"),
        ({"image": "http://169.254.169.254/latest"}, 422, "fetch.scheme_refused"),
        ({"image": "file:///etc/passwd"}, 422, "fetch.scheme_refused"),
        (clip, 422, "request.not_a_picture"),
        ({"image": b64(b"<svg/>")}, 422, "request.not_a_picture"),
        (torn, 422, "media.damaged"),
        (["a cat", torn], 422, "media.damaged"),
    ]


def test_what_cannot_be_embedded_says_why(asked: Callable[..., None]) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        async def refused(status: int, code: str, **how: Any) -> str:
            answer = await client.post("/v1/embeddings", **how)
            told = answer.json()
            assert (answer.status_code, told["code"]) == (status, code), (how, told)
            assert told["error"]["message"] == told["detail"]
            assert told["error"]["code"] == code
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["content-length"]) == len(answer.content)
            assert len(answer.content) < 2000
            return str(told["detail"])

        for given, status, code in _bad_inputs():
            said = await refused(status, code, json={"model": "fake", "input": given})
            if code.startswith("media."):
                assert said.startswith("input ")
        body = {"model": "fake", "input": "x"}
        await refused(422, "request.schema", json={**body, "encoding_format": "hex"})
        await refused(422, "request.schema", json={**body, "dimension": 32})
        await refused(422, "request.schema", json={"input": "x"})
        await refused(422, "request.dimensions", json={**body, "dimensions": 31})
        await refused(404, "request.no_model", json={**body, "model": "other"})
        await refused(422, "request.schema", content=b"{")
        await refused(422, "request.schema", content=b"")
        await refused(422, "request.schema", content=b'{"model":"fake","input":"\\ud800"}')
        await refused(422, "request.schema", content=b"[" * 100_000)
        await refused(422, "request.schema", content=b'{"model":"fake","input":"\xff"}')
        await refused(413, "request.too_large", content=b" " * 300_001)

        async def endless() -> Any:
            while True:
                yield b" " * 4096

        await refused(413, "request.too_large", content=endless())
        # A text may speak of data URLs without being one, and names no location to fetch.
        for text in ("data: a cat", "data:image/png,abc", "http://example.com/a.png"):
            answer = await client.post("/v1/embeddings", json={**body, "input": text})
            assert answer.json()["usage"]["pictures"] == 0

    asked(
        ask,
        **{
            "serve.embeddings": {"max_inputs": 8, "max_chars": 200, "max_body_bytes": 300_000},
        },
    )


def test_a_head_that_is_almost_a_data_url_costs_no_time(asked: Callable[..., None]) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        body = json.dumps({"model": "fake", "input": "data:" + "a" * 8_000_000})
        answer = await asyncio.wait_for(client.post("/v1/embeddings", content=body), 10)
        assert answer.json()["code"] == "request.text"

    asked(ask)


def test_without_a_text_tower_pictures_remain(asked: Callable[..., None]) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        post = client.post
        refused = await post("/v1/embeddings", json={"model": "fake", "input": "a cat"})
        assert (refused.status_code, refused.json()["code"]) == (400, "text.off")
        seen = await post(
            "/v1/embeddings", json={"model": "fake", "input": {"image": b64(picture())}}
        )
        assert seen.status_code == 200

    asked(ask, serve__embeddings__text=False)
