"""Write the shipped files: python -m training.mini.export_mini (see README.md).

Exports both towers, checks them against torch on ONNX Runtime, and writes model.json and
labels.yaml with a provisional threshold; fit_thresholds.py puts the fitted ones in.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import yaml
from tokenizers import Tokenizer

from engines.export.openclip import export_image_tower, export_text_tower
from engines.export.parity import image_parity, text_parity
from reelsight.nouns.engine_spec import Geometry
from reelsight.samples.vocabulary import labels
from training.mini.dataset import SIZE
from training.mini.tower import MEAN, STD, config, load_model
from training.mini.wording import encode

__all__ = ["PROMPTS", "TEMPLATES", "write_labels", "write_manifest"]

TEMPLATES = ("{}", "a video frame with {}")
PROMPTS = 6
_FILES = {"image": "image.onnx", "text": "text.onnx", "tokenizer": "tokenizer.json"}


def write_labels(path: Path, thresholds: dict[str, float]) -> None:
    """Write labels.yaml.

    Args:
        path: The file.
        thresholds: Cosine threshold of every label.
    """
    rows = [
        {
            "name": label.name,
            "prompts": list(label.phrases[:PROMPTS]),
            "threshold": round(thresholds[label.name], 4),
            "aliases": {"en": list(label.en), "zh": list(label.zh)},
        }
        for label in labels()
    ]
    bank = {"name": "reelsight-mini", "templates": list(TEMPLATES), "labels": rows}
    text = yaml.safe_dump(bank, sort_keys=False, allow_unicode=True, width=100)
    path.write_text(text, encoding="utf-8")


def write_manifest(directory: Path, *, scale: float, bias: float, threshold: float) -> None:
    """Write model.json beside the files that it lists.

    Args:
        directory: Holds the files.
        scale: Multiplies a cosine, before the bias, to give the logit of the training loss.
        bias: Added after.
        threshold: Cosine threshold for labels that have none of their own.
    """
    model = {
        "format": 1,
        "name": "reelsight-mini",
        "geometry": {"size": SIZE, "mode": "squash"},
        "dim": config()["embed_dim"],
        "context_length": config()["text_cfg"]["context_length"],
        "logit_scale": round(scale, 6),
        "logit_bias": round(bias, 6),
        "default_threshold": round(threshold, 4),
        "licence": "Apache-2.0",
        "files": {
            role: {
                "path": name,
                "sha256": hashlib.sha256((directory / name).read_bytes()).hexdigest(),
            }
            for role, name in _FILES.items()
        },
    }
    text = json.dumps(model, indent=2)
    (directory / "model.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    model = load_model(options.checkpoint)
    geometry = Geometry(SIZE)
    length = config()["text_cfg"]["context_length"]
    shutil.copyfile(options.tokenizer, out / "tokenizer.json")
    export_image_tower(model, out / "image.onnx", geometry=geometry, mean=MEAN, std=STD)
    export_text_tower(model, out / "text.onnx", context_length=length)
    tokens = encode(
        Tokenizer.from_file(str(out / "tokenizer.json")), [label.phrases[0] for label in labels()]
    )
    checks = {
        "image": image_parity(model, out / "image.onnx", geometry=geometry, mean=MEAN, std=STD),
        "text": text_parity(model, out / "text.onnx", tokens=np.ascontiguousarray(tokens)),
    }
    for name, parity in checks.items():
        parity.check()
        size = (out / f"{name}.onnx").stat().st_size / 1e6
        print(f"{name}.onnx {size:.1f} MB, max abs error {parity.max_abs:.1e}")
    scale, bias = model.logit_scale.exp().item(), model.logit_bias.item()
    provisional = -bias / scale
    write_manifest(out, scale=scale, bias=bias, threshold=provisional)
    write_labels(out / "labels.yaml", {label.name: provisional for label in labels()})


if __name__ == "__main__":
    main()
