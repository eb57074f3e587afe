"""Export a named model into a model directory: its towers, a tokenizer and model.json.

A directory appears only after every tower agreed with torch. Where weights come from is `weights`'
business, how a tower is traced is `openclip`'s; models without a text tower are `classifier`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from engines.export import weights
from engines.export.classifier import export_classifier, is_classifier
from engines.export.model_directory import MODEL_JSON_FORMAT, file_entry, write_model_directory
from engines.export.openclip import export_image_tower, export_text_tower
from engines.export.openclip_import import EXPORT_HINT, import_open_clip, import_torch
from engines.export.parity import image_parity, text_parity
from engines.export.tokenizer import PROBES, save_tokenizer
from reelsight.errors import ModelError, first_line
from reelsight.nouns.engine_spec import Geometry

__all__ = ["COSINE_THRESHOLD", "export_model", "load_open_clip"]

# A CLIP trained with a softmax has no cosine at which it says "yes": matching pairs of the public
# ViT-B/32 and L/14 models lie around .25-.35 and unrelated ones around .10-.20, so a label without
# a threshold of its own takes the gap's upper edge. It is a start, not a calibration.
COSINE_THRESHOLD = 0.25


def export_model(name: str, directory: Path, *, random_weights_seed: int | None = None) -> Path:
    """Export a model by name.

    Args:
        name: What `weights.parse` reads, such as `ViT-B-32/laion2b_s34b_b79k`, or what
            `classifier.parse` does, such as `timm/resnet50/a1_in1k`.
        directory: Where the model shall be; replaced when it exists.
        random_weights_seed: Take random weights of this seed instead of trained ones. For tests and
            benchmarks: such a model's answers mean nothing.

    Returns:
        The directory, now holding image.onnx, text.onnx, tokenizer.json and model.json; without a
        text tower image.onnx and model.json.

    Raises:
        ModelError: The name, weights, geometry or tokenizer cannot be used, or the exported towers
            differ from torch; the `code` says which.
    """
    if is_classifier(name):
        return export_classifier(name, directory, random_weights_seed=random_weights_seed)
    source = weights.parse(name)
    model = load_open_clip(source, random_weights_seed)
    geometry = _geometry(name, model.visual.preprocess_cfg)

    def fill(scratch: Path) -> dict[str, Any]:
        document = _write(source, model, geometry, scratch)
        if random_weights_seed is not None:
            document["name"] = f"{name}/random-seed-{random_weights_seed}"
            document["licence"] = "none: random weights"
        return document

    return write_model_directory(directory, fill)


def load_open_clip(source: weights.Source, seed: int | None) -> Any:
    """The torch module that a name of open_clip stands for, in evaluation mode.

    Args:
        source: From weights.parse().
        seed: Of random weights; None for the trained weights that the source names.

    Raises:
        ModelError: The architecture or its weights cannot be had.
    """
    open_clip, torch = import_open_clip(), import_torch()
    if seed is not None or not source.architecture.startswith("local-dir:"):
        weights.require_clear(
            source, seed, lambda: open_clip.list_pretrained_tags_by_model(source.architecture)
        )
    checkpoint = weights.fetch(source) if source.tag is not None else source.checkpoint
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0 if seed is None else seed)
        try:
            model = open_clip.create_model(
                source.architecture,
                pretrained=None if checkpoint is None else str(checkpoint),
                # open_clip only warns when a tag was trained with the other activation, and the
                # embeddings are then silently wrong.
                force_quick_gelu=bool(source.settings.get("quick_gelu", False)),
                force_preprocess_cfg=dict(source.settings) or None,
                load_weights=seed is None,
                require_pretrained=seed is None,
                pretrained_text=False,
            )
        except ImportError as error:
            raise ModelError(
                f"{source.name} needs a package that is not installed: {error}",
                code="model.export_extra_missing",
                hint=EXPORT_HINT,
            ) from error
        except Exception as error:  # boundary: a checkpoint is a foreign file and fails in any way
            raise weights.invalid_checkpoint(source, error) from error
    return model.eval()


def _geometry(name: str, preprocess: dict[str, Any]) -> Geometry:
    size = preprocess["size"]
    sides = {size} if isinstance(size, int) else set(size)
    mode, interpolation = preprocess["resize_mode"], preprocess["interpolation"]
    if len(sides) != 1:
        reason = f"its input is not square ({size})"
    elif mode not in ("shortest", "squash"):
        reason = f"its resize mode is {mode!r}; 'shortest' and 'squash' are supported"
    elif interpolation != "bicubic":
        reason = f"it was trained on {interpolation} resizing; 'bicubic' is supported"
    else:
        return Geometry(size=int(sides.pop()), mode=mode)
    raise ModelError(
        f"{name} cannot be fed the pictures it was trained on: {reason}.",
        code="model.geometry_unsupported",
        hint="Choose another pretrained tag or architecture.",
    )


def _write(
    source: weights.Source, model: Any, geometry: Geometry, directory: Path
) -> dict[str, Any]:
    """Write and check the three files; return model.json's content."""
    preprocess = model.visual.preprocess_cfg
    mean, std = preprocess["mean"], preprocess["std"]
    context_length = int(model.context_length)
    image, text, words = (directory / n for n in ("image.onnx", "text.onnx", "tokenizer.json"))
    tokenizer = _tokenizer(source)
    save_tokenizer(tokenizer, words, context_length=context_length)
    export_image_tower(model, image, geometry=geometry, mean=mean, std=std)
    image_parity(model, image, geometry=geometry, mean=mean, std=std).check()
    export_text_tower(model, text, context_length=context_length)
    tokens = np.asarray(tokenizer(list(PROBES), context_length), dtype=np.int64)
    text_parity(model, text, tokens=tokens).check()
    scale = float(model.logit_scale.detach().exp())
    bias = 0.0 if model.logit_bias is None else float(model.logit_bias.detach())
    return {
        "format": MODEL_JSON_FORMAT,
        "name": source.name,
        "geometry": {"size": geometry.size, "mode": geometry.mode},
        "dim": _dim(model, tokens),
        "context_length": context_length,
        "logit_scale": scale,
        "logit_bias": bias,
        # A sigmoid-trained model (SigLIP) does say "yes": where scale * cosine + bias > 0.
        "default_threshold": round(-bias / scale, 4) if bias else COSINE_THRESHOLD,
        "licence": _licence(source),
        "files": {
            "image": file_entry(image),
            "text": file_entry(text),
            "tokenizer": file_entry(words),
        },
    }


def _tokenizer(source: weights.Source) -> Any:
    try:
        return import_open_clip().get_tokenizer(source.architecture)
    except Exception as error:  # boundary: transformers, its hub client and missing files
        raise ModelError(
            f"the tokenizer of {source.name} could not be loaded: {first_line(error)}",
            code="model.tokenizer_unavailable",
            hint="It may need `pip install transformers`, a network, or a filled HF_HOME cache.",
        ) from error


def _dim(model: Any, tokens: Any) -> int:
    torch = import_torch()
    with torch.no_grad():
        return int(model.encode_text(torch.from_numpy(tokens[:1])).shape[-1])


def _licence(source: weights.Source) -> str:
    hub_id = str(source.settings.get("hf_hub", "")).rstrip("/")
    where = f"the model card of {hub_id}" if hub_id else "whoever published the checkpoint"
    return f"not stated by the checkpoint: see {where}"
