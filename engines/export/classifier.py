"""Export image classifiers of torchvision and timm as image-only models: their pooled features.

The head that names classes is left off; what remains embeds pictures. Such a model directory holds
image.onnx and model.json, and no text tower. Preprocessing differs from the library's in one point
that is ours for every model: the shorter side is scaled to the input's size, where these libraries
scale it some percent larger before they crop, and bicubically.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from engines.export import weights
from engines.export.model_directory import MODEL_JSON_FORMAT, file_entry, write_model_directory
from engines.export.openclip import export_image_encoder
from engines.export.openclip_import import import_extra, import_open_clip, import_torch
from engines.export.parity import image_parity
from reelsight.errors import ModelError
from reelsight.nouns.engine_spec import Geometry

__all__ = ["build_encoder", "export_classifier", "is_classifier", "parse"]

_LIBRARIES = ("torchvision", "timm")
# Families whose head is the layer `fc`.
_FAMILIES = re.compile(r"(resnet|resnext|wide_resnet)(?!v2)")
# What torchvision trained them with.
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224


def is_classifier(name: str) -> bool:
    """Whether a model's name is one that this module reads."""
    return name.partition("/")[0] in _LIBRARIES


def parse(name: str) -> weights.Source:
    """Read a classifier's name.

    Args:
        name: `LIBRARY/ARCHITECTURE`, `LIBRARY/ARCHITECTURE/TAG` such as `timm/resnet50/a1_in1k` or
            `torchvision/resnet50/IMAGENET1K_V2`, or `LIBRARY/ARCHITECTURE//path/to/checkpoint`.

    Raises:
        ModelError: `model.unknown_architecture`, `model.unknown_tag` or `model.checkpoint_missing`.
    """
    library, _, rest = name.partition("/")
    architecture, _, tag = rest.partition("/")
    known = _architectures(library)
    if architecture not in known:
        raise weights.unknown_architecture(library, architecture, known)
    if tag.startswith(("/", "./", "../", "~")):
        checkpoint = Path(tag).expanduser()
        if not checkpoint.is_file():
            raise weights.missing_checkpoint(checkpoint)
        return weights.Source(name, architecture, None, checkpoint, {})
    if not tag:
        return weights.Source(name, architecture, None, None, {})
    tags = _tags(library, architecture)
    if tag not in tags:
        raise ModelError(
            f"{library}/{architecture} has no tag {tag!r}. Its tags: {', '.join(tags) or 'none'}.",
            code="model.unknown_tag",
            hint=f"Write {library}/{architecture}/TAG or {library}/{architecture}//path/to/file.",
        )
    return weights.Source(name, architecture, tag, None, tags[tag])


def export_classifier(
    name: str, directory: Path, *, random_weights_seed: int | None = None
) -> Path:
    """Export a classifier without its head.

    Input `frames`: uint8 [n, 224, 224, 3] RGB. Output `embedding`: float32 [n, dim], the pooled
    features with unit L2 norm; dim is 2048 for a ResNet-50.

    Args:
        name: What `parse` reads.
        directory: Where the model shall be; replaced when it exists.
        random_weights_seed: Take random weights of this seed; then the name names none.

    Returns:
        The directory, now holding image.onnx and model.json.

    Raises:
        ModelError: The name or weights cannot be used, or the export differs from torch.
    """
    source = parse(name)
    library = name.partition("/")[0]
    weights.require_clear(
        source, random_weights_seed, lambda: list(_tags(library, source.architecture))
    )
    encoder, mean, std, size = build_encoder(source, random_weights_seed)
    geometry = Geometry(size, "shortest")

    def fill(scratch: Path) -> dict[str, Any]:
        image = scratch / "image.onnx"
        export_image_encoder(encoder, image, geometry=geometry, mean=mean, std=std)
        image_parity(encoder, image, geometry=geometry, mean=mean, std=std).check()
        random = random_weights_seed is not None
        return {
            "format": MODEL_JSON_FORMAT,
            "name": f"{name}/random-seed-{random_weights_seed}" if random else name,
            "geometry": {"size": geometry.size, "mode": geometry.mode},
            "dim": encoder.dim,
            # Without a text tower no label is ever compared: nothing passes 1.
            "logit_scale": 1.0,
            "logit_bias": 0.0,
            "default_threshold": 1.0,
            "licence": "none: random weights" if random else "see whoever published the weights",
            "files": {"image": file_entry(image)},
        }

    return write_model_directory(directory, fill)


def _library(name: str) -> Any:
    # open_clip brings timm, and importing it repairs torchvision where that does not import.
    import_open_clip()
    return import_extra(name)


def _architectures(library: str) -> list[str]:
    models = _library(library).models if library == "torchvision" else _library(library)
    return sorted(name for name in models.list_models() if _FAMILIES.match(name))


def _tags(library: str, architecture: str) -> dict[str, dict[str, str]]:
    """Where the weights of each tag are, as `weights.fetch` reads it."""
    module = _library(library)
    if library == "torchvision":
        return {w.name: {"url": str(w.url)} for w in module.models.get_model_weights(architecture)}
    found = {}
    for name in module.list_pretrained(f"{architecture}.*"):
        settings = module.get_pretrained_cfg(name)
        if settings.hf_hub_id:
            found[name.partition(".")[2]] = {"hf_hub": f"{settings.hf_hub_id}/model.safetensors"}
    return found


def build_encoder(
    source: weights.Source, seed: int | None
) -> tuple[Any, tuple[float, ...], tuple[float, ...], int]:
    """The classifier without its head, in torch.

    Args:
        source: From parse().
        seed: Of random weights; None for the trained weights that the source names.

    Returns:
        A module whose `encode_image` takes float32 [n, 3, S, S], normalised, and gives [n, dim];
        the channels' mean and standard deviation, of 0..1; and S.

    Raises:
        ModelError: `model.architecture_unsupported`, or the weights cannot be had.
    """
    torch, library = import_torch(), source.name.partition("/")[0]
    module = _library(library)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if seed is None else seed)
        if library == "torchvision":
            backbone = module.models.get_model(source.architecture, weights=None)
            preprocess = _IMAGENET
        else:
            tagged = ".".join(filter(None, (source.architecture, source.tag)))
            backbone = module.create_model(tagged, pretrained=False)
            settings = backbone.pretrained_cfg
            preprocess = settings["mean"], settings["std"], settings["input_size"][-1]
    head: Any = getattr(backbone, "fc", None)
    if not isinstance(head, torch.nn.Linear):
        raise ModelError(
            f"{source.name} does not end in a linear layer `fc`: its features cannot be told from "
            "its head",
            code="model.architecture_unsupported",
            hint="Choose a plain ResNet, ResNeXt or Wide ResNet.",
        )
    if seed is None:
        _load(backbone, source)

    class Encoder(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.dim = int(head.in_features)
            backbone.fc = torch.nn.Identity()
            _pool_by_mean(backbone)
            self.backbone = backbone

        def encode_image(self, pixels: Any) -> Any:
            return self.backbone(pixels)

    return Encoder().eval(), *preprocess


def _pool_by_mean(backbone: Any) -> None:
    """Pool to one pixel by a mean.

    The exporter turns adaptive pooling of frames that came in channels last into gathers of
    computed ranges, which say the same and which no engine compiles well.
    """
    torch = import_torch()

    class Mean(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def forward(self, x: Any) -> Any:
            return x.mean((2, 3), keepdim=True)

    for parent in list(backbone.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(parent, name, Mean())


def _load(backbone: Any, source: weights.Source) -> None:
    torch = import_torch()
    checkpoint = source.checkpoint or weights.fetch(source)
    try:
        if checkpoint.suffix == ".safetensors":
            state = import_extra("safetensors.torch").load_file(str(checkpoint))
        else:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        backbone.load_state_dict(state)
    except Exception as error:  # boundary: a checkpoint is a foreign file and fails in any way
        raise weights.invalid_checkpoint(source, error) from error
