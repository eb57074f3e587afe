"""Build the open_clip model of reelsight-mini from its small configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engines.export.openclip_import import import_open_clip

__all__ = ["CONFIG", "MEAN", "STD", "build_model", "config", "load_model"]

CONFIG = Path(__file__).with_name("reelsight-mini.json")
MEAN = (0.5, 0.5, 0.5)
STD = (0.25, 0.25, 0.25)


def config() -> dict[str, Any]:
    """The model configuration."""
    loaded: dict[str, Any] = json.loads(CONFIG.read_text(encoding="utf-8"))
    return loaded


def build_model() -> Any:
    """A `CustomTextCLIP` with fresh weights."""
    open_clip = import_open_clip()
    open_clip.add_model_config(CONFIG)
    return open_clip.create_model(CONFIG.stem, pretrained=None)


def load_model(checkpoint: Path) -> Any:
    """The averaged weights of a checkpoint, in float32, ready to be used."""
    import torch

    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = build_model()
    model.load_state_dict(state["average"])
    return model.float().eval()
