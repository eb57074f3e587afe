"""Derived files of towers as torch exports them: one small tower of each family we claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.gate.measures import centred_cosine
from engines.precision.calibration import calibrate
from engines.precision.derive import derive
from engines.precision.frameset import FrameSet
from engines.precision.plan import PLANS
from reelsight.errors import ModelError
from tests.engines.precision.conftest import Run

WIDE = {"image_size": 64, "layers": 2, "width": 128, "head_width": 32, "patch_size": 16}
TEXT = {"context_length": 16, "vocab_size": 512, "width": 32, "heads": 2, "layers": 1}
# A family's architecture, and how many of its layers are quantised.
FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "vit": ({"embed_dim": 64, "vision_cfg": WIDE}, 8),
    "quick-gelu": ({"embed_dim": 64, "quick_gelu": True, "vision_cfg": WIDE}, 8),
    "resnet": (
        {
            "embed_dim": 64,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32},
        },
        # The stem's two after the first; three and a shortcut in each of four blocks.
        2 + 4 * 4,
    ),
    "siglip": (
        {
            "embed_dim": 192,
            "custom_text": True,
            "vision_cfg": {
                "image_size": 224,
                "timm_model_name": "vit_tiny_patch16_224",
                "timm_pool": "map",
                "timm_proj": "none",
            },
        },
        # Twelve blocks; of the pool all but its last layer, which makes the embedding: the query,
        # keys and values together, the projection, and the first layer of the MLP.
        12 * 4 + 4,
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, FrameSet]:
    """A family's name, its exported tower of random weights and biases, and frames."""
    from engines.export.openclip import export_image_tower
    from engines.export.openclip_import import import_open_clip, import_torch
    from reelsight.nouns.engine_spec import Geometry

    pytest.importorskip("onnxscript", reason="pip install 'reelsight[export]'")
    try:
        open_clip, torch = import_open_clip(), import_torch()
    except ModelError as error:
        pytest.skip(f"{error.message} {error.hint}")
    config = dict(FAMILIES[request.param][0])
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = kind(**config, text_cfg=TEXT).eval()
        # Trained biases are not zero; the exporter leaves zero ones out.
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.02 * torch.randn_like(parameter))
        # Without statistics of its own a random residual net hardly sees the picture at all.
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None
                torch.nn.init.ones_(part.weight)
        size = config["vision_cfg"]["image_size"]
        coarse = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
        step = size // 8
        frames = FrameSet(coarse.repeat(step, axis=1).repeat(step, axis=2))
        pixels = torch.from_numpy(frames.frames.copy()).permute(0, 3, 1, 2).float() / 64 - 2
        model.train().encode_image(pixels)
        model.eval()
    path = tmp_path_factory.mktemp(request.param) / "image.onnx"
    export_image_tower(
        model, path, geometry=Geometry(size), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    return request.param, path, frames


@pytest.mark.parametrize("plan", PLANS)
def test_every_plan_of_every_family(
    plan: str, exported: tuple[str, Path, FrameSet], run: Run, tmp_path: Path
) -> None:
    family, master, frames = exported
    calibration = calibrate(master, frames, "minmax", master.parent / "calibrations")
    needed = calibration if PLANS[plan].needs_calibration else None
    derived = derive(master, PLANS[plan], tmp_path / "x.onnx", calibration=needed)
    assert len(derived.quantised) == (FAMILIES[family][1] if needed else 0)
    if plan != "bf16":  # Which no CPU kernel computes.
        cosine = centred_cosine(run(master, frames), run(derived.path, frames))
        # Random weights of few channels lose more than trained ones, and E4M3, with 3 bits of
        # mantissa, the most; a wrong scale, axis or zero point ends below .5.
        assert cosine.min() > {"int8": 0.9, "fp8": 0.75, None: 0.999}[PLANS[plan].quantised]
