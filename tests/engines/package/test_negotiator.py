"""The negotiator over manifests of a real package, for machines that are described and not here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from engines.backend import Artifact, Availability, Backend, BuildRequest, BuildWatch, Target
from engines.gate.report import GateReport, Rerun
from engines.gate.thresholds import thresholds_for
from engines.package.backends import BACKENDS, backend_named
from engines.package.directory import open_package
from engines.package.manifest import CalibrationId, PackageManifest
from engines.package.negotiator import MASTER, Negotiation, Wish, negotiate
from engines.package.registry import Listed
from engines.package.signing import Trust
from engines.precision.plan import plan_named
from reelsight.engine import Engine
from reelsight.errors import ConfigError, PackageError
from reelsight.nouns.engine_spec import EngineSpec
from reelsight.nouns.model import Model

H200 = Target("linux", "x86_64", "9.0", "NVIDIA H200", {"library": "11.4"})


@dataclass(frozen=True)
class Described:
    """A backend on a machine with a GPU that is not here; opens nothing."""

    name: str
    target: Target | None = H200
    precisions: frozenset[str] = frozenset({"fp32", "fp16", "int8", "fp8"})

    def probe(self) -> Availability:
        if self.target is None:
            return Availability(False, f"{self.name} is not installed", "", None)
        return Availability(True, "", "11.4", self.target)

    def refusal(self, spec: EngineSpec, target: Target) -> str | None:
        return None if target == self.target else f"it is for SM {target.sm}"

    def build(self, request: BuildRequest, directory: Path, watch: BuildWatch) -> Artifact:
        raise NotImplementedError

    def open(self, spec: EngineSpec, directory: Path, model: Model, *, threads: int) -> Engine:
        raise NotImplementedError


@pytest.fixture
def manifest(built: Path) -> PackageManifest:
    return open_package(built, Trust()).manifest


def measured(speed: float, cpu: str = "a CPU", threads: int = 1) -> dict[str, Any]:
    return {
        "frames_per_s": speed,
        "latency_ms": {"p50": 1.0, "p99": 2.0, "runs": 20},
        "machine": {"cpu": cpu, "threads": threads},
    }


def on(
    manifest: PackageManifest,
    backend: str,
    precision: str = "fp16",
    target: Target = H200,
    speed: float | None = None,
) -> Listed:
    plan = plan_named(precision)
    spec = replace(manifest.spec, backend=backend, precision=precision, backend_version="11.4")
    assert isinstance(manifest.gate, GateReport)
    changed = replace(
        manifest,
        spec=spec,
        target=target,
        plan=plan,
        # The limits of the precision that it is said to be of.
        gate=replace(manifest.gate, engine=spec.hash, thresholds=thresholds_for(precision)),
        calibration=CalibrationId("minmax", "0" * 64) if plan.needs_calibration else None,
        benchmark=None if speed is None else measured(speed),
    )
    # What is described here is what a registry could hold.
    assert PackageManifest.from_bytes(changed.to_bytes(), "p") == changed
    return Listed(changed.path, "0" * 64, changed)


def decide(model: Model, *packages: Listed, wish: Wish | None = None) -> Negotiation:
    return negotiate(wish or Wish(model), packages, Described)


def test_backends_go_in_their_order(model: Model, manifest: PackageManifest) -> None:
    packages = [on(manifest, name) for name in reversed(BACKENDS)]
    found = decide(model, *packages)
    assert found.require().backend == "tensorrt"
    assert [v.backend for v in found.verdicts] == [*BACKENDS, "onnxruntime-cpu"]
    assert found.verdicts[1].reason == "usable, but tensorrt fp16 goes before it"
    for place, name in enumerate(BACKENDS[1:], start=1):
        assert decide(model, *packages[: len(BACKENDS) - place]).require().backend == name


def test_the_fastest_precision_goes_first_and_what_was_measured_before_what_is_guessed(
    model: Model, manifest: PackageManifest
) -> None:
    names = ("fp32", "fp16", "int8", "fp8")
    guessed = [on(manifest, "tensorrt", name) for name in names]
    assert [v.precision for v in decide(model, *guessed).verdicts[:4]] == [*reversed(names)]
    speeds = dict(zip(names, (100.0, 900.0, 500.0, 400.0), strict=True))
    timed = [on(manifest, "tensorrt", name, speed=speeds[name]) for name in names]
    assert decide(model, *timed).require().precision == "fp16"
    assert decide(model, *timed[:3], guessed[3]).require().precision == "fp8"
    for elsewhere in (measured(400, cpu="another"), measured(400, threads=8)):
        moved = replace(timed[3], manifest=replace(timed[3].require(), benchmark=elsewhere))
        assert decide(model, *timed[:3], moved).require().precision == "fp8"


def test_nothing_in_the_registry_leaves_the_master(model: Model) -> None:
    found = decide(model)
    assert found.require().path == MASTER
    assert [v.code for v in found.verdicts[1:]] == ["package.none"] * len(BACKENDS)
    with pytest.raises(PackageError, match="tensorrt: there is no package of it") as caught:
        decide(model, wish=Wish(model, backend="tensorrt")).require()
    assert caught.value.code == "package.none_usable"


Change = Callable[[PackageManifest], PackageManifest]


def gate_failed(manifest: PackageManifest) -> PackageManifest:
    assert isinstance(manifest.gate, GateReport)
    return replace(manifest, gate=replace(manifest.gate, passed=False, reasons=("bad",)))


def lax(manifest: PackageManifest) -> PackageManifest:
    assert isinstance(manifest.gate, GateReport)
    limits = replace(manifest.gate.thresholds, decisions=0.0, min_frames=1)
    return replace(manifest, gate=replace(manifest.gate, thresholds=limits))


def needs_rerun(manifest: PackageManifest) -> PackageManifest:
    assert isinstance(manifest.gate, GateReport)
    rerun = (Rerun("weapon", 0.01, 0.02),)
    return replace(manifest, gate=replace(manifest.gate, needs_higher_precision=rerun))


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda m: replace(m, gate=None), "package.ungated", "never put through the gate"),
        (gate_failed, "package.gate_failed", "the gate stopped it: bad"),
        (needs_rerun, "package.needs_rerun", "critical labels (weapon)"),
        (lax, "package.lax_gate", "laxer than this version's in decisions, min_frames"),
        (
            lambda m: replace(m, master_sha256="1" * 64),
            "package.other_onnx",
            "made of an image tower 111111111111",
        ),
        (
            lambda m: replace(m, spec=replace(m.spec, model_hash="1" * 64)),
            "package.other_model",
            "it is of reelsight-mini (111111111111)",
        ),
        (
            lambda m: replace(m, target=replace(m.target, sm="8.9")),
            "package.other_machine",
            "it is for SM 8.9",
        ),
        (
            lambda m: replace(m, spec=replace(m.spec, backend="openvino")),
            "package.unknown_backend",
            "no backend 'openvino'",
        ),
    ],
)
def test_each_refusal_has_its_code_and_words(
    model: Model, manifest: PackageManifest, change: Change, code: str, says: str
) -> None:
    good = on(manifest, "tensorrt")
    bad = replace(good, manifest=change(good.require()))

    def backend_of(name: str) -> Backend:
        return backend_named(name) if name == "openvino" else Described(name)

    found = negotiate(Wish(model), [bad], backend_of)
    (verdict,) = [v for v in found.verdicts if v.listed is not None]
    assert (verdict.code, verdict.chosen) == (code, False)
    assert says in verdict.reason
    assert found.require().path == MASTER
    assert verdict.document()["code"] == code


@pytest.mark.parametrize("wish", [{"precision": "int4"}, {"backend": "openvino"}])
def test_a_wish_for_what_there_is_not_is_an_error(model: Model, wish: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        decide(model, wish=Wish(model, **wish))


def test_a_library_that_is_missing_is_the_reason(model: Model, manifest: PackageManifest) -> None:
    found = negotiate(
        Wish(model), [on(manifest, "tensorrt")], lambda name: Described(name, target=None)
    )
    assert found.verdicts[-1].reason == "there is no package of it"
    reasons = {v.backend: v.reason for v in found.verdicts if v.listed}
    assert reasons == {"tensorrt": "tensorrt is not installed"}


def test_wishes_are_kept(model: Model, manifest: PackageManifest) -> None:
    packages = [on(manifest, "tensorrt", "int8"), on(manifest, "aotinductor", "fp16")]
    wish = Wish(model, precision="fp16")
    assert decide(model, *packages, wish=wish).require().backend == "aotinductor"
    wish = Wish(model, backend="tensorrt", precision="fp16")
    with pytest.raises(PackageError, match="fp16 is wanted"):
        decide(model, *packages, wish=wish).require()


def test_the_next_best_takes_over_from_a_choice_that_does_not_verify(
    model: Model, manifest: PackageManifest
) -> None:
    found = decide(model, on(manifest, "tensorrt"), on(manifest, "aotinductor"))
    after = found.without(found.require(), PackageError("broken", code="package.damaged"))
    assert after.require().backend == "aotinductor"
    assert [(v.backend, v.code) for v in after.verdicts[:2]] == [
        ("tensorrt", "package.damaged"),
        ("aotinductor", "package.chosen"),
    ]


def test_there_is_a_backend_for_every_name_and_no_other() -> None:
    assert backend_named("onnxruntime-cpu").probe().usable
    with pytest.raises(ConfigError, match="no backend 'openvino' builds packages"):
        backend_named("openvino")
