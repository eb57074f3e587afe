"""Every plan of an extractor, built for real by TensorRT-RTX for a GPU that is not here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engines.backend import BuildRequest, BuildWatch
from engines.gate.prebuilt import build_for
from engines.package.directory import open_package
from engines.package.registry import Registry
from engines.package.signing import Trust
from engines.precision.calibration import Calibration, calibrate
from engines.precision.derive import derive
from engines.precision.plan import PLANS, plan_named
from engines.trt.backend import TensorRtBackend
from engines.trt.flavour import TENSORRT_RTX
from reelsight.errors import PackageError
from reelsight.nouns.model import Model
from tests.untrained_pair import BUCKETS, untrained_frames, untrained_reader

pytestmark = pytest.mark.usefixtures("rtx")

# The residual blocks' convolutions; the first one sees the pixels.
CONVOLUTIONS = 43


@pytest.fixture(scope="module")
def model() -> Model:
    return untrained_reader()[0]


@pytest.fixture(scope="module")
def calibration(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibrate(model.image, untrained_frames(16), "minmax", tmp_path_factory.mktemp("ranges"))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "fp8"])
def test_every_plan_is_built(
    precision: str, rtx: Any, model: Model, calibration: Calibration, tmp_path: Path
) -> None:
    plan = plan_named(precision)
    path = tmp_path / "derived.onnx"
    derived = derive(model.image, plan, path, calibration=calibration if plan.quantised else None)
    assert len(derived.quantised) == (CONVOLUTIONS if PLANS[precision].quantised else 0)
    wanted = BuildRequest(model, plan, path, derived.sha256, BUCKETS, {"sm": "8.9"})
    made = tmp_path / "plan"
    made.mkdir()
    artifact = TensorRtBackend(TENSORRT_RTX).build(wanted, made, BuildWatch())
    assert artifact.target.libraries == {"tensorrt_rtx": rtx.__version__}
    assert artifact.spec.geometry.mode == "active"
    assert artifact.spec.model_hash == model.hash
    assert artifact.details["profiles"] == [[b, 256, 256, 3] for b in BUCKETS]


def test_what_nobody_judged_is_published_and_not_served(
    model: Model, calibration: Calibration, tmp_path: Path
) -> None:
    backend, scratch = TensorRtBackend(TENSORRT_RTX), tmp_path / "package"
    scratch.mkdir()
    build_for(
        backend,
        "12.0",
        model=model,
        precision="int8",
        buckets=(8,),
        calibration=calibration,
        directory=scratch,
        watch=BuildWatch(),
    )
    package = open_package(scratch, Trust())
    registry = Registry(str(tmp_path / "registry"), Trust())
    with pytest.raises(PackageError) as caught:
        registry.push(package)
    assert caught.value.code == "package.ungated"
    assert registry.push(package, ungated=True).startswith("marks-untrained-")
