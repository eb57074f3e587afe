"""The table of results/trained-h200.json: what low precision does to labels of trained weights."""

from __future__ import annotations

from typing import Any

__all__ = ["agreement_table"]


def agreement_table(document: dict[str, Any]) -> str:
    """Markdown of a results file of `benchmarks.engines.trained`: a row a model and precision."""
    lines = [
        "| model | precision | label decisions that stay (aim) | best label stays | loss of mean "
        "average precision | centred cosine, mean / p1 | the gate |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for model in document["models"]:
        for name, row in model["precisions"].items():
            cells = [
                f"{model['model']} ({model['weights']})",
                name.upper(),
                f"{row['label_agreement']:.3%} ({row['label_agreement_aim']:.1%})",
                f"{row['top1']:.2%}",
                f"{row['map_drop']['all']:+.4f}",
                f"{row['centred_cosine']['mean']:.4f} / {row['centred_cosine']['p1']:.4f}",
                "passes" if row["passes_the_gate"] else f"refuses: {row['reasons'][0]}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    frames, gpu = document["frames"]["heldout"]["frames"], document["machine"]["gpu"]
    named = {model["model"]: model.get("versions", {}) for model in document["models"]}
    stack = ", ".join(f"{name} {number}" for name, number in document["versions"].items())
    others = "; ".join(
        f"{name} with {what} {number}"
        for name, versions in named.items()
        for what, number in versions.items()
        if document["versions"].get(what) != number
    )
    words = (
        f"{frames:,} frames, one half degraded, of no training and no calibration; against "
        f"{document['reference']}. Measured on one {gpu['name']} (driver {gpu['driver']}) "
        f"with {stack}"
    )
    return "\n".join([*lines, "", f"{words}{f' ({others})' if others else ''}."])
