"""deployments/kuberay and the Dockerfile: their fields, and what must fit each other."""

from __future__ import annotations

import copy
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml
from ray.serve.schema import ServeDeploySchema

from jobs.backfill import command

ROOT = Path(__file__).parents[2]
KINDS = {"backfill.yaml": "RayJob", "nightly.yaml": "RayCronJob", "service.yaml": "RayService"}
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"}


def manifest(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((ROOT / "deployments" / "kuberay" / name).read_text())
    return tree


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    text = Path(__file__).with_name("kuberay_schema.yaml").read_text()
    loaded: dict[str, Any] = yaml.safe_load(text)
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def cluster_of(tree: dict[str, Any]) -> dict[str, Any]:
    spec = tree["spec"]
    found: dict[str, Any] = (
        spec.get("rayClusterConfig") or (spec.get("jobTemplate", spec)["rayClusterSpec"])
    )
    return found


def pods_of(tree: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = cluster_of(tree)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


@pytest.mark.parametrize("name", KINDS)
def test_manifests_have_kuberays_fields(name: str, schema: dict[str, Any]) -> None:
    tree = manifest(name)
    jsonschema.validate(tree, schema)
    assert tree["kind"] == KINDS[name]
    cluster = cluster_of(tree)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["rayVersion"] == version("ray")
    for pod in pods_of(tree):
        assert pod["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["resources"]["requests"] == container["resources"]["limits"]
            wants_gpu = "nvidia.com/gpu" in container["resources"]["limits"]
            assert container["image"] == ("reelsight:gpu" if wants_gpu else "reelsight:cpu")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda tree: tree["spec"].update(entryPoint="python"),
        lambda tree: tree["spec"].update(backoffLimit="0"),
        lambda tree: tree["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("groupName"),
        lambda tree: tree["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"].update(x=0),
    ],
)
def test_the_schema_refuses_what_kuberay_would(wrong: Any, schema: dict[str, Any]) -> None:
    tree = copy.deepcopy(manifest("backfill.yaml"))
    wrong(tree)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, schema)


def test_the_job_takes_the_commands_options() -> None:
    for name in ("backfill.yaml", "nightly.yaml"):
        spec = manifest(name)["spec"]
        python, flag, module, *arguments = shlex.split(spec.get("jobTemplate", spec)["entrypoint"])
        assert (python, flag, module) == ("python", "-m", "jobs.backfill")
        app = typer.Typer()
        app.command()(command)
        typer.main.get_command(app).make_context("backfill", list(arguments))


def test_the_nightly_run_is_the_backfill() -> None:
    once, nightly = manifest("backfill.yaml")["spec"], manifest("nightly.yaml")["spec"]
    assert once.pop("entrypoint") != nightly["jobTemplate"].pop("entrypoint")
    assert once == nightly["jobTemplate"]


def test_the_service_is_serve_yaml() -> None:
    service = yaml.safe_load(manifest("service.yaml")["spec"]["serveConfigV2"])
    ours = yaml.safe_load((ROOT / "deployments" / "serve.yaml").read_text())
    ServeDeploySchema.model_validate(service)
    assert service["http_options"].pop("host") == "0.0.0.0"
    del ours["http_options"]["host"]
    environment = service["applications"][0]["runtime_env"]["env_vars"]
    # Open to others it wants keys, and every pod wants the same banks.
    assert environment.pop("REELSIGHT_SERVE__KEYS_FILE").startswith("/shared/")
    assert environment.pop("REELSIGHT_DATA_DIR").startswith("/shared/")
    assert service == ours
    ports = {
        port["name"]: port["containerPort"]
        for pod in pods_of(manifest("service.yaml"))
        for container in pod["containers"]
        for port in container["ports"]
    }
    assert ports["serve"] == ours["http_options"]["port"]


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: lines joined, comments dropped."""
    text = (ROOT / "deployments" / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


def test_the_dockerfile_is_whole() -> None:
    """What a linter would say of it; no builder is asked."""
    stages: dict[str, list[tuple[str, str]]] = {}
    images = []
    for name, rest in instructions():
        assert name in INSTRUCTIONS
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            stages[stage] = list(stages.get(base, []))
            images += [base] if base not in stages else []
        else:
            if name == "COPY" and (source := re.match(r"--from=(\S+)", rest)):
                assert source[1] in stages
            elif name == "COPY":
                *sources, _ = rest.split()
                assert all((ROOT / source).exists() for source in sources), rest
            if "apt-get install" in rest:
                assert "--no-install-recommends" in rest
                assert rest.startswith("apt-get update")
                assert "rm -rf /var/lib/apt/lists" in rest
            stages[stage].append((name, rest))
    # Pinned, and of the registry that docker asks by default.
    assert all(re.fullmatch(r"[a-z]+(/[a-z]+)?:[\w.-]*\d[\w.-]*", image) for image in images)
    for target in ("cpu", "gpu"):
        assert [rest for name, rest in stages[target] if name == "USER"][-1] == "1000"
        assert ("COPY", "--from=cpu-build /opt/reelsight /opt/reelsight") in stages[target]
    (locked,) = [r for n, r in stages["cpu-build"] if n == "RUN" and "base.lock" in r]
    assert "--require-hashes" in locked
    user = pods_of(manifest("backfill.yaml"))[0]["securityContext"]["runAsUser"]
    assert user == 1000


def test_the_image_gets_what_it_copies() -> None:
    ignored = (ROOT / "deployments" / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source.split("/")[0]
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == allowed
