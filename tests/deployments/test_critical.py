"""Critical labels: a coarse engine serves, and near a threshold a precise one decides."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg

import deployments.app
from deployments.app import single_api
from deployments.critical import critical_recipe
from deployments.run import serving
from reelsight.engine import EngineHost, EngineRecipe, FakeEngine
from reelsight.errors import ConfigError, EngineError
from reelsight.nouns.label_bank import Label, LabelBank
from reelsight.nouns.report import Rechecked, Report
from reelsight.nouns.schema import reports_to_table
from reelsight.plan import TaggingPlan
from reelsight.runner import SequentialRunner
from reelsight.settings import Settings
from reelsight.steps import ClipRequest

NEAR, FAR = 0.985, 0.5


class CoarseEngine(FakeEngine):
    """Its embeddings are 0.98 of the precise ones, in cosine."""

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        rows = super().run(pixels)
        other = np.roll(rows, 1, axis=1)
        other -= (other * rows).sum(axis=1, keepdims=True) * rows
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        turned: npt.NDArray[np.float32] = 0.98 * rows + np.sqrt(1 - 0.98**2) * other
        return turned.astype(np.float32)


class BrokenEngine(FakeEngine):
    """Opens, and fails whatever it is given."""

    def run(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        raise EngineError("the device is gone")


@pytest.fixture
def still(tmp_path: Path) -> Path:
    pixels = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (96, 128, 3), np.uint8)
    path = tmp_path / "still.jpg"
    path.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels)))
    return path


@pytest.fixture
def coarse(fake_recipe: EngineRecipe) -> EngineRecipe:
    spec = replace(fake_recipe.spec, precision="int8")
    return replace(fake_recipe, spec=spec, open_engine=partial(CoarseEngine, spec))


@pytest.fixture
def precise(still: Path, fake_recipe: EngineRecipe, fake_plan: TaggingPlan) -> Report:
    host = EngineHost(fake_recipe.open_engine())
    try:
        with SequentialRunner(fake_plan, host) as runner:
            return runner.report(ClipRequest("still", str(still)))
    finally:
        host.close()


def plan_with(
    plan: TaggingPlan, recipe: EngineRecipe, precise: Report, labels: list[tuple[str, float, bool]]
) -> TaggingPlan:
    """Labels by name, threshold and whether critical; the still is exactly what each means."""
    row = precise.embeddings[0].astype(np.float32)
    bank = LabelBank(
        "alarms",
        plan.bank.model,
        plan.bank.model_hash,
        10.0,
        tuple(
            Label(name, (name,), threshold, {}, critical) for name, threshold, critical in labels
        ),
        np.stack([row / np.linalg.norm(row)] * len(labels)),
    )
    return replace(plan, spec=recipe.spec, bank=bank)


def tagged(
    still: Path, recipe: EngineRecipe, plan: TaggingPlan, second: EngineRecipe | None
) -> httpx.Response:
    settings = Settings.load(None, {"engine.backend": "fake", "serve.decoders": 1})

    async def whole() -> httpx.Response:
        api = single_api(recipe, plan, settings, second)
        transport = httpx.ASGITransport(api)
        async with (
            api.router.lifespan_context(api),
            httpx.AsyncClient(transport=transport, base_url="http://door") as client,
        ):
            assert (await client.get("/healthz")).status_code == 200
            raw = {"content-type": "image/jpeg"}
            answer = await client.post("/v1/tags", content=still.read_bytes(), headers=raw)
            told = (await client.get("/metrics")).text
            assert ('deployment="critical-engine"' in told) == (second is not None)
            return answer

    return asyncio.run(whole())


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()["labels"]]


def test_near_its_threshold_a_critical_label_is_decided_by_the_second_engine(
    still: Path,
    coarse: EngineRecipe,
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
    precise: Report,
) -> None:
    labels = [("alarm", NEAR, True), ("sure", FAR, True)]
    plan = plan_with(fake_plan, coarse, precise, labels)
    alone = tagged(still, coarse, plan, None)
    assert names(alone) == ["sure"]
    assert alone.json()["rechecked"] is None
    settled = tagged(still, coarse, plan, fake_recipe)
    assert sorted(names(settled)) == ["alarm", "sure"]
    assert settled.json()["rechecked"] == {
        "labels": ["alarm"],
        "frames": [0],
        "engine": "fake/1/fp32",
        "engine_hash": fake_recipe.spec.hash,
    }
    # What the first engine is, the answer says as well.
    assert settled.json()["provenance"]["engine_hash"] == coarse.spec.hash


@pytest.mark.parametrize("label", [("plain", NEAR, False), ("sure", FAR, True)])
def test_what_is_not_critical_or_not_near_is_run_once(
    label: tuple[str, float, bool],
    still: Path,
    coarse: EngineRecipe,
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
    precise: Report,
) -> None:
    plan = plan_with(fake_plan, coarse, precise, [label])
    broken = replace(fake_recipe, open_engine=partial(BrokenEngine, fake_recipe.spec))
    answer = tagged(still, coarse, plan, broken)
    assert (names(answer), answer.json()["rechecked"]) == (
        ["sure"] if label[1] == FAR else [],
        None,
    )


def test_without_the_second_engine_a_critical_label_is_not_decided(
    still: Path,
    coarse: EngineRecipe,
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
    precise: Report,
) -> None:
    plan = plan_with(fake_plan, coarse, precise, [("alarm", NEAR, True)])
    broken = replace(fake_recipe, open_engine=partial(BrokenEngine, fake_recipe.spec))
    answer = tagged(still, coarse, plan, broken)
    assert (answer.status_code, answer.json()["code"]) == (500, "engine.failed")


def test_a_second_engine_is_opened_only_where_it_is_more_precise(
    coarse: EngineRecipe, fake_recipe: EngineRecipe
) -> None:
    asked: dict[str, Any] = {"serve.critical_engine": {"backend": "fake", "precision": "fp32"}}
    settings = Settings.load(None, {"engine.backend": "fake", **asked})
    assert critical_recipe(Settings.load(None, {"engine.backend": "fake"}), coarse) is None
    assert critical_recipe(settings, fake_recipe) is None
    second = critical_recipe(settings, coarse)
    assert second is not None
    assert second.spec == fake_recipe.spec
    mini = Settings.load(None, {"serve.critical_engine": {"backend": "onnxruntime-cpu"}})
    with pytest.raises(ConfigError):
        critical_recipe(mini, coarse)


def test_a_report_says_it_in_its_row(precise: Report, fake_plan: TaggingPlan) -> None:

    told = replace(precise, rechecked=Rechecked(("alarm",), (0, 2), "fake/1/fp32", "1" * 16))
    rows = reports_to_table([told, precise], fake_plan.spec.dim).to_pylist()
    assert rows[0]["rechecked"] == json.loads(json.dumps(told.to_dict()["rechecked"]))
    assert rows[1]["rechecked"] is None
    assert precise.to_dict()["rechecked"] is None
    assert told != precise


@pytest.mark.usefixtures("ray_cluster")
def test_replicas_of_a_second_engine_decide(
    still: Path,
    tmp_path: Path,
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
    precise: Report,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As coarse by name alone: Ray's workers know the engines of the library, not those of tests.
    spec = replace(fake_recipe.spec, precision="int8")
    coarse = replace(fake_recipe, spec=spec, open_engine=partial(FakeEngine, spec))
    plan = plan_with(fake_plan, coarse, precise, [("alarm", 0.99, True)])
    monkeypatch.setattr(deployments.app, "recipe_for", lambda _: coarse)
    monkeypatch.setattr(deployments.app, "plan_for", lambda *_: plan)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags: dict[str, Any] = {
        "engine.backend": "fake",
        "data_dir": str(tmp_path),
        "serve.topology": "split",
        "serve.port": port,
        "serve.decoders": 1,
        "serve.critical_engine": {"backend": "fake"},
    }
    with (
        serving(Settings.load(None, flags)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        raw = {"content-type": "image/jpeg"}
        answer = client.post("/v1/tags", content=still.read_bytes(), headers=raw)
        assert names(answer) == ["alarm"]
        assert answer.json()["rechecked"]["engine_hash"] == fake_recipe.spec.hash
        assert answer.json()["provenance"]["engine_hash"] == spec.hash
