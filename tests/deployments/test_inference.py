"""/v2: Triton's own client against the engine, and what it must be told in its protocol's words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from deployments.app import single_api
from reelsight.engine import EngineRecipe, FakeEngine
from reelsight.plan import TaggingPlan, plan_for
from reelsight.settings import Settings
from tests.deployments.doors import asking, listening

Pixels = npt.NDArray[np.uint8]
Ask = Callable[[httpx.AsyncClient], Awaitable[None]]


def noise(n: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (n, 64, 64, 3), np.uint8)


def tensor(pixels: Pixels, *, binary: bool = True) -> Any:
    given = triton.InferInput("pixels", list(pixels.shape), "UINT8")
    given.set_data_from_numpy(pixels, binary_data=binary)
    return given


@pytest.fixture
def client(
    fake_recipe: EngineRecipe, fake_plan: TaggingPlan, fake_settings: Settings
) -> Iterator[Any]:
    """Triton's client of a server with the fake engine."""
    with (
        listening(single_api(fake_recipe, fake_plan, fake_settings)) as address,
        triton.InferenceServerClient(address, concurrency=4) as made,
    ):
        yield made


@pytest.fixture
def asked(fake_recipe: EngineRecipe, fake_plan: TaggingPlan) -> Callable[..., None]:
    """Runs questions to a door with the fake engine."""

    def run(ask: Ask, **inference: Any) -> None:
        settings = Settings.load(None, {"engine.backend": "fake", "serve.inference": inference})

        async def whole() -> None:
            async with asking(single_api(fake_recipe, fake_plan, settings)) as client:
                await ask(client)

        asyncio.run(whole())

    return run


def test_tritons_client_learns_what_there_is(client: Any, fake_recipe: EngineRecipe) -> None:
    version = fake_recipe.spec.hash
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fake")
    assert client.is_model_ready("fake", version)
    assert not client.is_model_ready("other")
    assert not client.is_model_ready("fake", "2")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    told = client.get_model_metadata("fake", version)
    assert told == client.get_model_metadata("fake")
    assert told["versions"] == [version]
    assert told["inputs"] == [{"name": "pixels", "datatype": "UINT8", "shape": [-1, 64, 64, 3]}]
    assert told["outputs"] == [{"name": "embeddings", "datatype": "FP32", "shape": [-1, 32]}]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritons_client_gets_the_engines_embeddings(
    client: Any, fake_recipe: EngineRecipe, binary_in: bool, binary_out: bool | None
) -> None:
    pixels = noise(5)
    expected = fake_recipe.open_engine().run(np.concatenate([pixels, noise(3)]))[:5]
    wanted = None
    if binary_out is not None:
        wanted = [triton.InferRequestedOutput("embeddings", binary_data=binary_out)]
    answer = client.infer(
        "fake", [tensor(pixels, binary=binary_in)], outputs=wanted, request_id="mine-1"
    )
    rows = answer.as_numpy("embeddings")
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, expected)
    head = answer.get_response()
    assert (head["model_name"], head["model_version"]) == ("fake", fake_recipe.spec.hash)
    assert head["id"] == "mine-1"


def test_many_at_a_time_get_their_own(client: Any, fake_recipe: EngineRecipe) -> None:
    batches = [noise(n, seed=n) for n in (1, 2, 3, 31, 32, 33, 70, 1)]
    waiting = [client.async_infer("fake", [tensor(batch)]) for batch in batches]
    engine = fake_recipe.open_engine()
    for batch, answer in zip(batches, waiting, strict=True):
        whole = np.zeros((96, 64, 64, 3), np.uint8)
        whole[: len(batch)] = batch
        expected = np.concatenate([engine.run(whole[i : i + 32]) for i in (0, 32, 64)])
        rows = answer.get_result().as_numpy("embeddings")
        np.testing.assert_array_equal(rows, expected[: len(batch)])


def test_tritons_client_reads_every_refusal(client: Any) -> None:
    def refused(words: str, status: str, call: Callable[..., Any], *given: Any) -> None:
        with pytest.raises(InferenceServerException, match=words) as caught:
            call(*given)
        assert caught.value.status() == status

    refused("no model 'other'; there is 'fake'", "404", client.infer, "other", [tensor(noise(1))])
    refused("no version '7'", "404", client.infer, "fake", [tensor(noise(1))], "7")
    refused("no model", "404", client.get_model_metadata, "other")
    refused("is not served", "404", client.get_model_repository_index)
    refused("is not served", "404", client.get_system_shared_memory_status)
    small: Any = np.zeros((1, 32, 32, 3), np.uint8)
    refused(r"shape \[1, 32, 32, 3\]", "400", client.infer, "fake", [tensor(small)])
    floats = triton.InferInput("pixels", [1, 64, 64, 3], "FP32")
    floats.set_data_from_numpy(np.zeros((1, 64, 64, 3), np.float32))
    refused("is 'FP32', expected 'UINT8'", "400", client.infer, "fake", [floats])
    named = triton.InferInput("image", [1, 64, 64, 3], "UINT8")
    named.set_data_from_numpy(noise(1))
    refused(r"inputs are \['image'\]", "400", client.infer, "fake", [named])
    with pytest.raises(InferenceServerException, match=r"wanted are \['logits'\]"):
        client.infer("fake", [tensor(noise(1))], outputs=[triton.InferRequestedOutput("logits")])
    with pytest.raises(InferenceServerException, match="compressed"):
        client.infer("fake", [tensor(noise(1))], request_compression_algorithm="gzip")
    # After all that the door is well.
    assert client.infer("fake", [tensor(noise(1))]).as_numpy("embeddings").shape == (1, 32)


def test_a_timeout_of_the_client_is_a_deadline(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="deadline"):
        client.infer("fake", [tensor(noise(200))], timeout=1)


def _head(**change: Any) -> dict[str, Any]:
    shape = change.pop("shape", [1, 64, 64, 3])
    given = {"name": "pixels", "shape": shape, "datatype": "UINT8", **change}
    return {"inputs": [given]}


def test_bytes_that_are_no_request_are_refused(asked: Callable[..., None]) -> None:
    frame = 64 * 64 * 3
    flat, raw = [7] * frame, bytes(frame)
    sized = {"parameters": {"binary_data_size": frame}}

    async def ask(client: httpx.AsyncClient) -> None:
        async def post(
            head: Any, rest: bytes = b"", length: int | str | None = None
        ) -> httpx.Response:
            text = head if isinstance(head, bytes) else json.dumps(head).encode()
            headers = {}
            if rest or length is not None:
                headers["inference-header-content-length"] = str(
                    len(text) if length is None else length
                )
            url = "/v2/models/fake/infer"
            return await client.post(url, content=text + rest, headers=headers)

        async def refused(status: int, code: str, *given: Any) -> None:
            answer = await post(*given)
            told = answer.json()
            assert (answer.status_code, told["code"]) == (status, code), told
            assert told["error"] == told["detail"]
            assert len(answer.content) < 2000

        assert (await post(_head(data=flat))).status_code == 200
        assert (await post(_head(**sized), raw)).status_code == 200
        nested = np.zeros((1, 64, 64, 3), int).tolist()
        assert (await post(_head(data=nested))).status_code == 200
        await refused(400, "request.schema", b"")
        await refused(400, "request.schema", b"{")
        await refused(400, "request.schema", b"\xff\xfe")
        await refused(400, "request.schema", b"[" * 50_000)
        await refused(400, "request.schema", {"inputs": "pixels"})
        await refused(400, "request.tensor", {"inputs": []})
        await refused(400, "request.tensor", {"inputs": _head(data=flat)["inputs"] * 2})
        for data in (
            None,
            [],
            flat[1:],
            [[1, 2], [3]],
            ["a"] * frame,
            [256] * frame,
            [-1] * frame,
            [0.5] * frame,
            [True] * frame,
            [None] * frame,
            [1 << 70] * frame,
            [flat],
            np.zeros((64, 1, 64, 3), int).tolist(),
        ):
            await refused(400, "request.tensor", _head(data=data))
        for shape in ([0, 64, 64, 3], [-1, 64, 64, 3], [64, 64, 3], [], [1 << 62, 64, 64, 3]):
            answer = await post(_head(data=flat, shape=shape))
            assert answer.status_code in (400, 413), answer.text
        await refused(400, "request.tensor", _head(data=flat), raw)
        await refused(400, "request.tensor", _head(**sized, data=flat), raw)
        await refused(400, "request.tensor", _head(**sized), raw[1:])
        await refused(400, "request.tensor", _head(**sized), raw + b"x")
        await refused(400, "request.tensor", _head(**sized))
        await refused(400, "request.tensor", _head(**sized), raw, 1 << 40)
        await refused(400, "request.schema", _head(**sized), raw, 10)
        await refused(422, "request.schema", _head(**sized), raw, -1)
        await refused(422, "request.schema", _head(**sized), raw, "ten")
        await refused(
            400, "request.tensor", _head(parameters={"shared_memory_region": "r"}, data=flat)
        )
        await refused(
            413, "request.too_large", _head(data=[100] * 10 * frame, shape=[10, 64, 64, 3])
        )
        await refused(413, "request.too_large", _head(data=flat, shape=[5, 64, 64, 3]))
        await refused(413, "request.too_large", b" " * (4 * frame + 400_001))
        wrong = await client.get("/v2/models/fake/infer")
        assert wrong.json()["error"]

    asked(ask, max_frames=4, max_json_bytes=400_000)


def test_a_model_whose_name_has_a_slash(fake_recipe: EngineRecipe, fake_settings: Settings) -> None:
    spec = replace(fake_recipe.spec, model="ViT-B-32/openai")
    recipe = replace(fake_recipe, spec=spec, open_engine=lambda: FakeEngine(spec))
    api = single_api(recipe, plan_for(recipe, fake_settings), fake_settings)
    with listening(api) as address, triton.InferenceServerClient(address) as client:
        name = "ViT-B-32/openai"
        assert client.is_model_ready(name, spec.hash)
        assert client.get_model_metadata(name)["name"] == name
        answer = client.infer(name, [tensor(noise(1))], model_version=spec.hash)
        assert answer.as_numpy("embeddings").shape == (1, 32)
