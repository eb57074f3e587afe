"""The card that travels with an exported pair: what it is, was trained on, and reached."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

from training.marks.export_marks import Exported
from training.marks.recipe import Recipe

__all__ = ["write_card"]

TEMPLATE = Path(__file__).with_name("CARD.md")


def write_card(
    path: Path, recipe: Recipe, files: dict[str, Exported], report: dict[str, Any]
) -> None:
    """Fill the template.

    Args:
        path: The Markdown file to write.
        recipe: What was trained.
        files: The exported pair.
        report: The last row of metrics.json.
    """
    shape, measured = recipe.shape, report["evaluation"]
    words = {
        "recipe": recipe.name,
        "bits": shape.bits,
        "size": shape.size,
        "stage": report["stage"],
        "steps": report["step"],
        "minutes": f"{report['trained_s'] / 60:.1f}",
        "coded": report["coded_steps"],
        "data": report["data"],
        "strength": f"{measured['strength_db']:g}",
        "psnr": f"{measured['psnr']:.2f}",
        "ssim": f"{measured['ssim']:.4f}",
        "auc": f"{measured['presence_auc']:.4f}",
        "files": "\n".join(
            f"| `{e.path.name}` | {e.bytes / 1e6:.2f} MB | {e.max_abs:.1e} | `{e.sha256}` |"
            for e in files.values()
        ),
        "stills": "\n".join(f"| {name} | {v:.3f} |" for name, v in measured["stills"].items()),
        "codecs": "\n".join(
            f"| {name} | {row['frame']:.3f} | {row['pooled']:.3f} |"
            for name, row in measured["codecs"].items()
        ),
    }
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(words)
    path.write_text(text, encoding="utf-8")
