"""The models of the benchmark, each in both forms: our model directory, and open_clip's own.

Both forms hold the same weights, and parity between them is checked before anything is timed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.pipeline.rebuild import load_resnet_tower
from engines.catalog import recipe_for
from engines.export.openclip_import import import_open_clip
from engines.export.parity import image_parity
from engines.export.resolve import export_model
from reelsight.labels import (
    BankDefinition,
    BankShelf,
    build_bank_for,
    choose_bank,
    save_bank,
)
from reelsight.settings import Settings

__all__ = ["CASES", "Case"]

open_clip = import_open_clip()

_LABELS = Path(__file__).with_name("labels.yaml")
_MINI_CONFIG = Path(__file__).parents[2] / "training" / "mini" / "reelsight-mini.json"
_MINI_MEAN, _MINI_STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclass(frozen=True, slots=True)
class Case:
    """One model to run all contenders with.

    Attributes:
        name: For the table.
        model: What our `--model` takes.
        bank: What our `--bank` takes.
        twin: open_clip model directory with the same weights, for the peers.
        text: npy file of the bank's matrix, float32 [L, D], for the peers.
    """

    name: str
    model: str
    bank: Path
    twin: Path
    text: Path


def vit_b_32(work: Path) -> Case:
    """ViT-B/32 with random weights of seed 0: the cost of the real one, which cannot be shipped."""
    name, twin = "ViT-B-32 (random weights, seed 0)", work / "vit-b-32-open-clip"
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-32")
    _write_twin(twin, model, open_clip.get_model_config("ViT-B-32"), {"resize_mode": "shortest"})
    directory = work / "vit-b-32"
    if not (directory / "model.json").is_file():
        export_model(f"local-dir:{twin}", directory)
    bank = work / "vit-b-32.bank"
    recipe = recipe_for(Settings(model=str(directory)))
    built = build_bank_for(recipe, BankDefinition.load(_LABELS))
    bank = save_bank(built, bank)
    return Case(name, str(directory), bank, twin, _write_text(work / "vit-b-32.npy", built))


def mini(work: Path) -> Case:
    """The shipped model with its own bank; the peers get its torch twin."""
    settings = Settings()
    recipe = recipe_for(settings)
    assert recipe.model is not None
    config = json.loads(_MINI_CONFIG.read_text(encoding="utf-8"))
    twin_model = open_clip.CustomTextCLIP(
        **{k: v for k, v in config.items() if k != "custom_text"}
    ).eval()
    load_resnet_tower(twin_model.visual, recipe.model.image)
    image_parity(
        twin_model,
        recipe.model.image,
        geometry=recipe.model.geometry,
        mean=_MINI_MEAN,
        std=_MINI_STD,
    ).check()
    twin = work / "reelsight-mini-open-clip"
    preprocess = {
        "resize_mode": recipe.model.geometry.mode,
        "mean": _MINI_MEAN,
        "std": _MINI_STD,
    }
    _write_twin(twin, twin_model, config, preprocess)
    bank = choose_bank(None, BankShelf(settings.banks_dir), recipe)
    path = save_bank(bank, work / "reelsight-mini.bank")
    text = _write_text(work / "reelsight-mini.npy", bank)
    return Case("reelsight-mini", settings.model, path, twin, text)


CASES: dict[str, Callable[[Path], Case]] = {"mini": mini, "vit-b-32": vit_b_32}


def _write_twin(
    directory: Path, model: Any, config: dict[str, Any], preprocess: dict[str, Any]
) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    save_file(dict(model.state_dict()), str(directory / "open_clip_model.safetensors"))
    document = {"model_cfg": config, "preprocess_cfg": preprocess}
    (directory / "open_clip_config.json").write_text(json.dumps(document))


def _write_text(path: Path, bank: Any) -> Path:
    np.save(path, bank.matrix)
    return path
