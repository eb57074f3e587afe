"""What only TensorRT-RTX has at run time, over a double of it: compiled kernels that are kept."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

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
def rtx_backend(fake: FakeRtx, device: HostDevice, tmp_path: Path) -> TensorRtBackend:
    def opened() -> HostDevice:
        device.closed = False
        return device

    return TensorRtBackend(TENSORRT_RTX, cache_dir=tmp_path / "cache", open_device=opened)


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


def test_compiled_kernels_are_kept_for_the_next_time(
    built: Artifact, rtx_backend: TensorRtBackend, fake: FakeRtx, model: Model, tmp_path: Path
) -> None:
    for expected in (b"kernels+", b"kernels++"):
        engine = rtx_backend.open(built.spec, tmp_path, model, threads=1)
        engine.run(FRAMES)
        engine.close()
        (kept,) = (tmp_path / "cache").rglob("*.bin")
        assert kept.read_bytes() == expected
    assert "compiled: kernels+" in fake.calls


def test_kernels_of_another_gpu_are_compiled_anew(
    built: Artifact, rtx_backend: TensorRtBackend, model: Model, tmp_path: Path
) -> None:
    engine = rtx_backend.open(built.spec, tmp_path, model, threads=1)
    engine.close()
    (kept,) = (tmp_path / "cache").rglob("*.bin")
    kept.write_bytes(b"damaged")
    rtx_backend.open(built.spec, tmp_path, model, threads=1).close()
    assert kept.read_bytes() == b"kernels+"


def test_a_cache_that_cannot_be_written_costs_only_time(
    built: Artifact, rtx_backend: TensorRtBackend, device: HostDevice, model: Model, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("in the way")
    engine = rtx_backend.open(built.spec, tmp_path, model, threads=1)
    engine.run(FRAMES)
    engine.close()
    assert device.live == 0
    assert (tmp_path / "cache").read_text() == "in the way"


def test_work_that_cannot_be_captured_is_enqueued(
    built: Artifact, rtx_backend: TensorRtBackend, fake: FakeRtx, model: Model, tmp_path: Path
) -> None:
    fake.trip["not capturable"] = (fake.ErrorCodeTRT.SUCCESS, "")
    engine = rtx_backend.open(built.spec, tmp_path, model, threads=1)
    engine.warmup()
    assert engine.report()["graphs"] == {"2": 0}
    engine.run(FRAMES)
    engine.close()


def test_a_capability_that_is_not_taken_is_an_error(
    rtx_backend: TensorRtBackend, fake: FakeRtx, model: Model, tmp_path: Path
) -> None:
    fake.trip["capability"] = (fake.ErrorCodeTRT.SUCCESS, "")
    digest = hashlib.sha256(model.image.read_bytes()).hexdigest()
    request = BuildRequest(model, plan_named("fp32"), model.image, digest, (2,))
    with pytest.raises(EngineError, match=r"does not build for SM 8\.9"):
        rtx_backend.build(request, tmp_path, BuildWatch())
