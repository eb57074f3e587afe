"""Fit a cosine threshold per label: python -m training.mini.fit_thresholds (see README.md).

It uses the threshold split, and the bank vectors that the shipped labels.yaml gives, so that a
threshold belongs to exactly the vector it is used with.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from reelsight.samples.vocabulary import labels
from training.mini.dataset import SPLITS, fixed_set
from training.mini.export_mini import PROMPTS, TEMPLATES, write_labels, write_manifest
from training.mini.scoring import Mini, best_threshold


def main() -> None:
    """Fit, and rewrite labels.yaml and model.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=6000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    frames, truth = fixed_set(options.photos, SPLITS["threshold"], options.frames, options.workers)
    mini = Mini(options.model, threads=2)
    every = labels()
    bank = mini.bank([list(label.phrases[:PROMPTS]) for label in every], list(TEMPLATES))
    scores = mini.images(frames) @ bank.T
    fitted, quality = {}, {}
    for column, label in enumerate(every):
        fitted[label.name], quality[label.name] = best_threshold(
            scores[:, column], truth[:, column]
        )
    pooled, pooled_f1 = best_threshold(scores.ravel(), truth.ravel())
    manifest = mini.manifest
    write_labels(options.model / "labels.yaml", fitted)
    write_manifest(
        options.model,
        scale=manifest["logit_scale"],
        bias=manifest["logit_bias"],
        threshold=pooled,
    )
    worst = sorted(quality, key=lambda name: quality[name])[:8]
    report = {
        "frames": len(frames),
        "default_threshold": pooled,
        "pooled_f1": pooled_f1,
        "mean_f1": float(np.mean(list(quality.values()))),
        "worst": {name: quality[name] for name in worst},
        "range": [min(fitted.values()), max(fitted.values())],
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
