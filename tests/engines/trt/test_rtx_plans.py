"""Every plan of every model, built for real by TensorRT-RTX, which needs no GPU for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.backend import BuildRequest, BuildWatch
from engines.trt.backend import TensorRtBackend
from engines.trt.flavour import TENSORRT_RTX
from reelsight.errors import EngineError
from reelsight.nouns.model import Model
from tests.engines.trt.conftest import MODELS

PLANS = ("fp32", "fp16", "fp16-norms32", "bf16", "int8", "fp8")
# Ampere, Ada and Blackwell; FP8 begins with Ada.
CAPABILITIES = ("8.0", "8.9", "12.0")


@pytest.mark.parametrize("sm", CAPABILITIES)
@pytest.mark.parametrize("precision", PLANS)
@pytest.mark.parametrize("name", MODELS)
def test_every_plan_is_built_for_every_capability(
    name: str,
    precision: str,
    sm: str,
    rtx: Any,
    model_named: Callable[[str], Model],
    request_for: Callable[..., BuildRequest],
    tmp_path: Path,
) -> None:
    model = model_named(name)
    request = request_for(model, precision, (1, 8), sm=sm)
    made = tmp_path / "plan"
    made.mkdir()
    backend = TensorRtBackend(TENSORRT_RTX)
    if precision == "fp8" and sm == "8.0":
        with pytest.raises(EngineError, match=r"fp8 needs compute capability 8\.9") as caught:
            backend.build(request, made, BuildWatch())
        assert caught.value.code == "engine.precision"
        return
    artifact = backend.build(request, made, BuildWatch())
    assert artifact.files == ("engine.plan",)
    assert [file.name for file in made.iterdir()] == ["engine.plan"]
    assert artifact.target.sm == sm
    assert artifact.target.libraries == {"tensorrt_rtx": rtx.__version__}
    assert artifact.spec.precision == precision
    assert artifact.details["profiles"] == [[b, *(model.geometry.size,) * 2, 3] for b in (1, 8)]
    # A plan without its weights would be smaller by far: at 8 bits they weigh a quarter.
    assert artifact.details["plan_bytes"] > model.image.stat().st_size / 6
