"""deployments/serve.yaml fits Serve's schema and the application, and an answer comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import BaseModel
from ray import cloudpickle, serve
from ray.serve.config import AutoscalingConfig
from ray.serve.context import _get_global_client
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    ServeApplicationSchema,
    ServeDeploySchema,
)

from deployments.app import build_app
from reelsight.marks.keys import generate_tenant_key
from reelsight.samples.clips import SampleClip
from reelsight.settings import Settings
from tests.deployments.doors import free_port

_FILE = Path(__file__).parents[2] / "deployments" / "serve.yaml"


@pytest.fixture
def written() -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return tree


@pytest.fixture
def settings(written: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What its replicas are told."""
    for name, value in written["applications"][0]["runtime_env"]["env_vars"].items():
        monkeypatch.setenv(name, value)
    return Settings.load()


def test_it_is_of_serves_schema(written: dict[str, Any]) -> None:
    ServeDeploySchema.model_validate(written)
    application = written["applications"][0]
    # Serve passes over names that it does not know.
    for kind, tree in [
        (ServeDeploySchema, written),
        (HTTPOptionsSchema, written["http_options"]),
        (LoggingConfig, written["logging_config"]),
        (ServeApplicationSchema, application),
        *((DeploymentSchema, each) for each in application["deployments"]),
        *(
            (AutoscalingConfig, each["autoscaling_config"])
            for each in application["deployments"]
            if "autoscaling_config" in each
        ),
    ]:
        assert issubclass(kind, BaseModel)
        assert set(tree) <= set(kind.model_fields), kind


def test_it_names_the_deployments_of_the_application(
    written: dict[str, Any], settings: Settings
) -> None:
    named = {each["name"] for each in written["applications"][0]["deployments"]}
    assert named == _deployments(build_app(settings))


def test_its_replicas_are_told_no_tenant_key(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = generate_tenant_key()
    for topology in ("single", "split"):
        told = Settings.load(None, {"serve.topology": topology, "marks.key": key})
        assert key.encode() in cloudpickle.dumps(told)
        assert key.encode() not in cloudpickle.dumps(build_app(told))


def test_its_numbers_fit_each_other(written: dict[str, Any], settings: Settings) -> None:
    told = {each["name"]: each for each in written["applications"][0]["deployments"]}
    assert told["media"]["ray_actor_options"]["num_cpus"] == settings.serve.decoders
    assert told["engine"]["ray_actor_options"]["num_cpus"] == settings.engine.threads
    for each in told.values():
        assert each["graceful_shutdown_timeout_s"] > settings.serve.timeout_s
    assert written["http_options"]["host"] == "127.0.0.1"
    assert written["http_options"]["request_timeout_s"] > settings.serve.timeout_s


@pytest.mark.usefixtures("ray_cluster")
def test_it_can_be_deployed(written: dict[str, Any], samples: list[SampleClip]) -> None:
    written["http_options"]["port"] = port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        _get_global_client().deploy_apps(ServeDeploySchema.model_validate(written), _blocking=True)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            assert client.get("/readyz").json() == {"status": "ok"}
            answer = client.post("/v1/tags", files={"file": samples[0].path.read_bytes()})
            assert answer.status_code == 200, answer.text
            found = {label["name"] for label in answer.json()["labels"]}
            assert {scene.label for scene in samples[0].truth} <= found
    finally:
        serve.shutdown()


def _deployments(application: serve.Application) -> set[str]:
    """Names of an application's deployment and of all that it is bound to."""
    bound = application._bound_deployment
    parts = [*bound.init_args, *bound.init_kwargs.values()]
    named = [_deployments(part) for part in _flat(parts) if isinstance(part, serve.Application)]
    return {bound.name}.union(*named)


def _flat(parts: Any) -> list[Any]:
    if isinstance(parts, list | tuple):
        return [leaf for part in parts for leaf in _flat(part)]
    return [parts]
