"""Fixtures of the TensorRT tests: models with their calibrations, and libraries where installed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reelsight.models
from engines.backend import BuildRequest
from engines.cuda.device import driver_problem
from engines.precision.calibration import Calibration, calibrate
from engines.precision.derive import derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import plan_named
from engines.trt.backend import TensorRtBackend
from engines.trt.flavour import TENSORRT
from reelsight.errors import ModelError
from reelsight.nouns.model import Model
from tests.engines.cuda.host_device import HostDevice
from tests.engines.trt.fake_tensorrt import FakeTensorRT

MODELS = ("reelsight-mini", "ViT-B-32", "RN50")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under `make test-trt` everything is installed that a machine without a GPU can run.

    A test that skips there all the same has lost what it checks.
    """
    report = yield
    required = "REELSIGHT_TRT_REQUIRED" in os.environ and driver_problem() is not None
    if report.skipped and required:
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be missing: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def rtx() -> Any:
    """The module tensorrt_rtx, which builds on machines without a GPU."""
    return pytest.importorskip(
        "tensorrt_rtx",
        reason="TensorRT-RTX is not installed: pip install 'reelsight[tensorrt-rtx]'",
    )


@pytest.fixture(scope="session")
def model_named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """The shipped model, or one of open_clip with random weights."""
    found: dict[str, Model] = {}

    def named(name: str) -> Model:
        if name == "reelsight-mini":
            return Model.load(reelsight.models.MINI)
        if name not in found:
            from engines.export.openclip_import import import_open_clip
            from engines.export.resolve import export_model

            try:
                import_open_clip()
            except ModelError as error:
                pytest.skip(f"{error.message} {error.hint}")
            directory = tmp_path_factory.mktemp("models") / name
            found[name] = Model.load(export_model(name, directory, random_weights_seed=0))
        return found[name]

    return named


@pytest.fixture(scope="session")
def calibration_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Model], Calibration]:
    """Activation ranges over a few made frames: enough for a graph, not for accuracy."""
    cache = tmp_path_factory.mktemp("calibrations")

    def of(model: Model) -> Calibration:
        size = model.geometry.size
        frames = np.random.default_rng(5).integers(0, 256, (4, size, size, 3), np.uint8)
        return calibrate(model.image, FrameSet(frames), "minmax", cache)

    return of


@pytest.fixture
def request_for(
    calibration_of: Callable[[Model], Calibration], tmp_path: Path
) -> Callable[..., BuildRequest]:
    """A build request for a model at a precision, its ONNX file derived."""

    def make(
        model: Model, precision: str, buckets: tuple[int, ...] = (1, 4), **options: Any
    ) -> BuildRequest:
        plan = plan_named(precision)
        calibration = calibration_of(model) if plan.needs_calibration else None
        made = derive(model.image, plan, tmp_path / f"{precision}.onnx", calibration=calibration)
        return BuildRequest(model, plan, made.path, made.sha256, buckets, options)

    return make


@pytest.fixture
def device() -> HostDevice:
    return HostDevice()


@pytest.fixture
def reopened(device: HostDevice) -> Callable[[], HostDevice]:
    """Opens the device again, as a backend does for each engine."""

    def opened() -> HostDevice:
        device.closed = False
        return device

    return opened


@pytest.fixture
def trt(device: HostDevice, monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    """What `import tensorrt` gives in this test."""
    module = FakeTensorRT(device)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def backend(trt: FakeTensorRT, reopened: Callable[[], HostDevice]) -> TensorRtBackend:
    """TensorRT 11 on a machine of doubles."""
    return TensorRtBackend(TENSORRT, open_device=reopened)
