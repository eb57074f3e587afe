"""The HTTP door through Ray Serve, in both of its shapes, with the same answers as without."""

from __future__ import annotations

import socket

import httpx
import pytest

from deployments.run import serving
from reelsight.engine import EngineHost, EngineRecipe
from reelsight.plan import TaggingPlan
from reelsight.runner import SequentialRunner
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from reelsight.steps import ClipRequest


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("topology", ["single", "split"])
def test_the_answers_are_those_of_the_runner(
    topology: str,
    port: int,
    samples: list[SampleClip],
    fake_recipe: EngineRecipe,
    fake_plan: TaggingPlan,
) -> None:
    host = EngineHost(fake_recipe.open_engine())
    with SequentialRunner(fake_plan, host) as runner:
        expected = [runner.report(ClipRequest(s.clip_id, str(s.path))) for s in samples[:4]]
    host.close()
    settings = Settings.load(
        None,
        {
            "engine.backend": "fake",
            "serve.topology": topology,
            "serve.port": port,
            "serve.decoders": 2,
        },
    )
    with serving(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/readyz").json() == {"status": "ok"}
        for sample, report in zip(samples, expected, strict=False):
            answer = client.post(
                "/v1/tags",
                files={"file": sample.path.read_bytes()},
                data={"clip_id": sample.clip_id},
            )
            assert answer.status_code == 200, answer.text
            body, told = answer.json(), report.to_dict()
            assert body["provenance"] == told["provenance"]
            assert body["frames"] == told["frames"]
            assert [(lab["name"], lab["confidence"]) for lab in body["labels"]] == [
                (tag["label"], tag["score"]) for tag in told["tags"]
            ]
            later = client.post("/v1/jobs", files={"file": sample.path.read_bytes()})
            assert later.status_code == 202, later.text
            with client.stream("GET", f"{later.headers['location']}/events") as events:
                assert any(line == "event: done" for line in events.iter_lines())
            job = client.get(later.headers["location"]).json()
            assert job["result"]["labels"] == body["labels"]
        broken = client.post("/v1/tags", files={"file": b"nothing"})
        assert (broken.status_code, broken.json()["code"]) == (422, "media.unrecognised_container")
        assert client.get("/nowhere").json()["code"] == "request.no_route"
