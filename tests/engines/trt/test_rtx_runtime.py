"""What only TensorRT-RTX has at run time, over a double of it."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reelsight.models
from engines.backend import Artifact, BuildRequest, BuildWatch
from engines.precision.plan import plan_named
from engines.trt.backend import TensorRtBackend
from engines.trt.flavour import TENSORRT_RTX
from reelsight.errors import EngineError
from reelsight.nouns.model import Model
from tests.engines.cuda.host_device import HostDevice
from tests.engines.trt.fake_tensorrt import FakeRtx

FRAMES = np.zeros((2, 224, 224, 3), np.uint8)


@pytest.fixture
def model() -> Model:
    return Model.load(reelsight.models.MINI)


@pytest.fixture
def fake(device: HostDevice, monkeypatch: pytest.MonkeyPatch) -> FakeRtx:
    module = FakeRtx(device)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    return module


@pytest.fixture
def rtx_backend(fake: FakeRtx, reopened: Callable[[], HostDevice]) -> TensorRtBackend:
    return TensorRtBackend(TENSORRT_RTX, open_device=reopened)


@pytest.fixture
def built(rtx_backend: TensorRtBackend, model: Model, tmp_path: Path) -> Artifact:
    digest = hashlib.sha256(model.image.read_bytes()).hexdigest()
    request = BuildRequest(model, plan_named("fp32"), model.image, digest, (2,))
    return rtx_backend.build(request, tmp_path, BuildWatch())


def test_a_plan_built_here_is_for_every_gpu_of_its_capability(
    built: Artifact, rtx_backend: TensorRtBackend, fake: FakeRtx, device: HostDevice
) -> None:
    assert (built.target.sm, built.target.gpu) == ("8.9", None)
    assert fake.configs[-1].capability == FakeRtx.ComputeCapability.SM89
    assert rtx_backend.refusal(built.spec, built.target) is None
    device.sm = "12.0"
    assert "SM 8.9" in str(rtx_backend.refusal(built.spec, built.target))
    device.sm = "9.0"
    assert "8.9, 12.0, and not for 9.0" in str(rtx_backend.refusal(built.spec, built.target))


def test_work_that_cannot_be_captured_is_enqueued(
    built: Artifact, rtx_backend: TensorRtBackend, fake: FakeRtx, model: Model, tmp_path: Path
) -> None:
    fake.trip["not capturable"] = (fake.ErrorCodeTRT.SUCCESS, "")
    engine = rtx_backend.open(built.spec, tmp_path, model, threads=1)
    engine.warmup()
    assert engine.report()["graphs"] == {"2": 0}
    engine.run(FRAMES)
    engine.close()


@pytest.mark.parametrize("change", [{"sm": "8.0+"}, {"libraries": {"tensorrt_rtx": "1.0+"}}])
def test_a_plan_that_it_cannot_have_built_is_refused(
    built: Artifact, rtx_backend: TensorRtBackend, change: dict[str, Any]
) -> None:
    """It builds for one version and one capability: a manifest that says more is not its."""
    target = dataclasses.replace(built.target, **change)
    assert rtx_backend.refusal(built.spec, target) is not None


def test_a_capability_that_is_not_taken_is_an_error(
    rtx_backend: TensorRtBackend, fake: FakeRtx, model: Model, tmp_path: Path
) -> None:
    fake.trip["capability"] = (fake.ErrorCodeTRT.SUCCESS, "")
    digest = hashlib.sha256(model.image.read_bytes()).hexdigest()
    request = BuildRequest(model, plan_named("fp32"), model.image, digest, (2,))
    with pytest.raises(EngineError, match=r"does not build for SM 8\.9"):
        rtx_backend.build(request, tmp_path, BuildWatch())
