"""Through Ray Serve: every replica's numbers at one /metrics, and the wire routes over handles."""

from __future__ import annotations

import asyncio
import base64

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from prometheus_client.parser import text_string_to_metric_families
from ray import serve

from deployments.meters import Meters, Numbers
from deployments.replicas import EngineReplica, gather_all
from deployments.run import serving
from reelsight.engine import EngineRecipe
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from tests.deployments.doors import free_port
from tests.deployments.test_embeddings import picture


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("topology", ["single", "split"])
def test_every_replicas_numbers_get_out(
    topology: str, samples: list[SampleClip], fake_recipe: EngineRecipe
) -> None:
    port = free_port()
    settings = Settings.load(
        None,
        {
            "engine.backend": "fake",
            "serve.topology": topology,
            "serve.port": port,
            "serve.decoders": 1,
        },
    )
    pixels = np.random.default_rng(1).integers(0, 256, (8, 64, 64, 3), np.uint8)
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        clip = {"file": samples[0].path.read_bytes()}
        frames = len(client.post("/v1/tags", files=clip).json()["frames"])
        shown = {"image": base64.b64encode(picture()).decode()}
        asked = {"model": "fake", "input": ["a cat", shown]}
        answer = client.post("/v1/embeddings", json=asked)
        assert answer.status_code == 200, answer.text
        row = answer.json()["data"][0]["embedding"]
        np.testing.assert_array_equal(
            np.array(row, np.float32), fake_recipe.open_text().embed_text(["a cat"])[0]
        )
        torn = {"image": base64.b64encode(picture(1, "JPEG")[:-60]).decode()}
        refused = client.post("/v1/embeddings", json={**asked, "input": ["a", torn]})
        assert (refused.status_code, refused.json()["code"]) == (422, "media.damaged")
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as inference:
            given = triton.InferInput("pixels", list(pixels.shape), "UINT8")
            given.set_data_from_numpy(pixels)
            rows = inference.infer("fake", [given]).as_numpy("embeddings")
            np.testing.assert_array_equal(rows, fake_recipe.open_engine().run(pixels))
        metrics = client.get("/metrics").text
    totals: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(metrics):
        assert family.name != "reelsight_unheard_deployments" or not family.samples
        for sample in family.samples:
            where = sample.labels["deployment"]
            name = (where, sample.name)
            totals[name] = totals.get(name, 0) + sample.value
    split = topology == "split"
    media, engine = ("media", "engine") if split else ("ingress", "ingress")
    assert {where for where, _ in totals} == {"ingress", media, engine}
    assert totals["ingress", "reelsight_request_seconds_count"] == 4
    assert totals["ingress", "reelsight_bank_info"] == 1
    assert totals[media, "reelsight_decode_seconds_count"] == 3
    assert totals[media, "reelsight_text_seconds_count"] >= 1
    assert totals[engine, "reelsight_frames_total"] == frames + 1 + len(pixels)


@pytest.mark.usefixtures("ray_cluster")
def test_two_replicas_of_a_deployment_are_both_heard(fake_recipe: EngineRecipe) -> None:
    class Hung:  # Here, so that it is pickled by value.
        async def numbers(self) -> None:
            await asyncio.Event().wait()

    settings = Settings.load(None, {"engine.backend": "fake"})
    engine = serve.deployment(EngineReplica, name="engine", num_replicas=2)
    serve.start(proxy_location="Disabled")
    try:
        serve.run(engine.bind(fake_recipe, settings), name="pair", route_prefix=None)
        handle = serve.get_deployment_handle("engine", app_name="pair")
        serve.run(serve.deployment(Hung, name="hung").bind(), name="stuck", route_prefix=None)
        hung = serve.get_deployment_handle("hung", app_name="stuck")
        own = Meters("ingress", "c")

        async def gather() -> tuple[list[Numbers], list[Numbers]]:
            heard = await gather_all(own, [handle], 20)()
            half = await gather_all(own, [handle, hung], 0.5)()
            return list(heard), list(half)

        heard, half = asyncio.run(gather())
    finally:
        serve.shutdown()
    assert [each.deployment for each in heard] == ["engine", "engine"]
    assert len({each.replica for each in heard}) == 2
    assert not any(each.unheard for each in heard)
    # Whoever does not answer in time is named, and fails no scrape.
    assert [each.deployment for each in half if each.families] == ["engine", "engine"]
    assert [each.unheard for each in half if not each.families] == [("hung",)]
