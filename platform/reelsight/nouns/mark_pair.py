"""MarkPair: the two networks of a mark on disk, and the card that says which files they are.

A directory holds embedder.onnx, extractor.onnx and CARD.md, as `training/marks` exports them. The
card names the sha256 of both files; what is inside of them is checked by whoever opens them.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from reelsight.digest import file_sha256
from reelsight.errors import ModelError
from reelsight.nouns.mark import Carrier

__all__ = ["PAIR_HINT", "MarkPair"]

PAIR_HINT = (
    "Give a directory that `python -m training.marks` exported: embedder.onnx, extractor.onnx and "
    "CARD.md as they were written."
)
_PARTS = ("embedder", "extractor")
_ROW = re.compile(r"^\| `(embedder|extractor)\.onnx` \|.*\| `([0-9a-f]{64})` \|$", re.MULTILINE)
_RECIPE = re.compile(r"\bRecipe `([a-z0-9][a-z0-9._-]{0,63})`")
_LONGEST_CARD = 1 << 20


@dataclass(frozen=True, slots=True)
class MarkPair:
    """An embedder and the extractor that was trained with it.

    Attributes:
        directory: Where they are.
        recipe: What was trained, by the card.
        embedder_sha256: sha256 (hex) of embedder.onnx.
        extractor_sha256: sha256 (hex) of extractor.onnx.
    """

    directory: Path
    recipe: str
    embedder_sha256: str
    extractor_sha256: str

    @property
    def embedder(self) -> Path:
        """The network that draws marks."""
        return self.directory / "embedder.onnx"

    @property
    def extractor(self) -> Path:
        """The network that reads them."""
        return self.directory / "extractor.onnx"

    @property
    def hash(self) -> str:
        """sha256 (hex) over both files' hashes."""
        text = f"reelsight mark pair 1\n{self.embedder_sha256}\n{self.extractor_sha256}\n"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def carrier(self) -> Carrier:
        """What a ledger calls it."""
        return Carrier(f"marks-{self.recipe}", self.hash[:12])

    @classmethod
    def load(cls, directory: Path) -> MarkPair:
        """Read the card and compare both files with it.

        Raises:
            ModelError: `model.missing`, a file is not there; `model.bad_pair`, the card does not
                say what it has to; `model.damaged`, a file is not the one that the card names.
        """
        directory = directory.absolute()
        card = directory / "CARD.md"
        try:
            with card.open("rb") as file:
                text = file.read(_LONGEST_CARD).decode()
            found = {name: file_sha256(directory / f"{name}.onnx") for name in _PARTS}
        except OSError as error:
            raise ModelError(
                f"no pair at {directory}: {error}", code="model.missing", hint=PAIR_HINT
            ) from error
        except UnicodeDecodeError as error:
            raise ModelError(
                f"{card} is not text", code="model.bad_pair", hint=PAIR_HINT
            ) from error
        rows = _ROW.findall(text)
        recipe = _RECIPE.search(text)
        if recipe is None or sorted(name for name, _ in rows) != list(_PARTS):
            raise ModelError(
                f"{card} does not name a recipe and one sha256 for each of both files",
                code="model.bad_pair",
                hint=PAIR_HINT,
            )
        for name, said in rows:
            if found[name] != said:
                raise ModelError(
                    f"{directory / name}.onnx does not match the sha256 in CARD.md",
                    code="model.damaged",
                    hint="Copy the pair again, whole, from where it was exported.",
                )
        return cls(directory, recipe.group(1), found["embedder"], found["extractor"])
