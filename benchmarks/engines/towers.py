"""The models of the benchmark and their towers in torch, as the export builds them.

A tower made here and an engine of the same model have the same weights: both come from the export's
own loaders. The module knows neither contenders nor files of the benchmark.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.export import classifier, resolve, weights
from engines.export.openclip_import import import_open_clip

__all__ = ["SEED", "ModelCase", "Tower", "case_of", "load_tower", "tiny_case", "vision_config"]

# Of the weights, where a model's name brings none.
SEED = 1
_ALIASES = {"vit-b-32": "ViT-B-32", "vit-l-14": "ViT-L-14", "resnet50": "torchvision/resnet50"}
# The largest batch: where the rate on one H200 no longer rises.
_LARGEST = {"ViT-B-32": 1024}
_LARGEST_OTHER = 256
_TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@dataclass(frozen=True, slots=True)
class ModelCase:
    """A model to measure.

    Attributes:
        key: What the results call it; a directory's name.
        name: What the export calls it.
        batches: Ascending; the last is the one that memory is compared at.
    """

    key: str
    name: str
    batches: tuple[int, ...]

    @classmethod
    def read(cls, text: str) -> ModelCase:
        """The case that `dumps` wrote."""
        key, name, batches = json.loads(text)
        return cls(key, name, tuple(batches))

    def dumps(self) -> str:
        """All of it in one argument of a command."""
        return json.dumps([self.key, self.name, self.batches])

    @property
    def trained(self) -> bool:
        """Whether the name brings weights."""
        parts = 2 if classifier.is_classifier(self.name) else 1
        return not self.name.startswith("local-dir:") and self.name.count("/") >= parts

    @property
    def seed(self) -> int | None:
        """Seed of the random weights; None for trained ones."""
        return None if self.trained else SEED


@dataclass(frozen=True, slots=True)
class Tower:
    """An image tower in torch, on the CPU, in float32, evaluating.

    Attributes:
        module: Maps normalised float32 [n, 3, size, size] to features float32 [n, dim].
        mean, std: Per-channel RGB, in units of 0..1.
        size: Side of the input, pixels.
    """

    module: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int


def case_of(name: str, batches: tuple[int, ...] | None) -> ModelCase:
    """A model by its alias, or by any name that the export reads.

    Args:
        name: `vit-b-32`, `vit-l-14`, `resnet50`, an architecture of open_clip, `timm/NAME` or
            `torchvision/NAME`, with a tag for trained weights.
        batches: Ascending; None for the model's own.
    """
    full = _ALIASES.get(name, name)
    largest = _LARGEST.get(full.partition("/")[0], _LARGEST_OTHER)
    key = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    return ModelCase(key, full, batches or (1, 64, largest))


def tiny_case(work: Path, batches: tuple[int, ...] | None) -> ModelCase:
    """A ViT that any machine runs in milliseconds; its description is written below `work`."""
    directory = work / "tiny-architecture"
    directory.mkdir(parents=True, exist_ok=True)
    document = {"model_cfg": _TINY, "preprocess_cfg": {"size": 32, "resize_mode": "squash"}}
    (directory / "open_clip_config.json").write_text(json.dumps(document), encoding="utf-8")
    return ModelCase("tiny", f"local-dir:{directory.absolute()}", batches or (1, 2, 4))


def load_tower(case: ModelCase) -> Tower:
    """The tower of a model, with the weights that its export has.

    Raises:
        ModelError: The name or weights cannot be used.
    """
    if classifier.is_classifier(case.name):
        encoder, mean, std, size = classifier.build_encoder(classifier.parse(case.name), case.seed)
        return Tower(encoder.backbone, mean, std, size)
    visual = resolve.load_open_clip(weights.parse(case.name), case.seed).visual
    preprocess = visual.preprocess_cfg
    size = preprocess["size"]
    return Tower(
        visual,
        tuple(preprocess["mean"]),
        tuple(preprocess["std"]),
        size if isinstance(size, int) else size[0],
    )


def vision_config(case: ModelCase) -> dict[str, Any] | None:
    """open_clip's description of a plain ViT and its embedding's length; None for other towers."""
    if classifier.is_classifier(case.name):
        return None
    if case.name.startswith("local-dir:"):
        directory = Path(case.name.removeprefix("local-dir:"))
        config = json.loads((directory / "open_clip_config.json").read_text())["model_cfg"]
    else:
        architecture = weights.parse(case.name).architecture
        config = import_open_clip().get_model_config(architecture)
    vision = config["vision_cfg"]
    if not isinstance(vision.get("layers"), int) or "patch_size" not in vision:
        return None
    return {
        **vision,
        "embed_dim": config["embed_dim"],
        "quick_gelu": config.get("quick_gelu", False),
    }
