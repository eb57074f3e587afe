"""LabelBank: the labels of a run, immutable, content-hashed and bound to one model.

Its id is the sha256 over the canonical JSON of the labels and the text matrix, so equal banks have
equal ids. This module embeds nothing and touches no file: `reelsight.labels` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from reelsight.errors import BankError

__all__ = ["BANK_FORMAT", "Label", "LabelBank"]

BANK_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Label:
    """One thing to look for.

    Attributes:
        name: Stable identifier, lower_snake_case by custom; what a Tag carries.
        prompts: Phrases whose embeddings are averaged into the label's vector.
        threshold: Cosine at and above which a frame shows the label.
        aliases: Names for people, by language (`en`, `zh`).
        critical: Whether an engine of lower precision may hardly ever decide it otherwise.
    """

    name: str
    prompts: tuple[str, ...]
    threshold: float
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    critical: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class LabelBank:
    """Labels with their text matrix.

    Attributes:
        name: Name for people.
        model: Name of the model whose text tower made the matrix.
        model_hash: Hash of that model; engines of another model are refused.
        logit_scale: The model's scale; turns a cosine's distance to a threshold into a confidence.
        labels: In the order of the matrix's rows.
        matrix: float32 [L, D], L2-normalised rows; read-only.
    """

    name: str
    model: str
    model_hash: str
    logit_scale: float
    labels: tuple[Label, ...]
    matrix: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if not self.labels:
            raise BankError(f"bank {self.name!r} has no labels", code="bank.empty")
        names = [label.name for label in self.labels]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise BankError(f"labels named twice: {twice}", code="bank.duplicate_label")
        if self.matrix.dtype != np.float32 or self.matrix.shape[:1] != (len(self.labels),):
            raise BankError(
                f"{len(self.labels)} labels but a {self.matrix.dtype} matrix {self.matrix.shape}"
            )
        if not np.allclose(np.linalg.norm(self.matrix, axis=1), 1.0, atol=1e-3):
            raise BankError("the rows of the text matrix are not unit vectors")
        self.matrix.setflags(write=False)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"LabelBank({self.name!r}, {len(self)} labels, {self.model}, {self.hash[:12]})"

    @property
    def thresholds(self) -> npt.NDArray[np.float32]:
        """float32 [L], cosine."""
        return np.array([label.threshold for label in self.labels], dtype=np.float32)

    @property
    def hash(self) -> str:
        """sha256 (hex) over the canonical JSON and the matrix."""
        digest = hashlib.sha256(self.document().encode())
        digest.update(np.ascontiguousarray(self.matrix).tobytes())
        return digest.hexdigest()

    def part(self, rows: Sequence[int]) -> LabelBank:
        """Some of the labels, by their rows; at least one. Confidences are those of the whole."""
        labels = tuple(self.labels[row] for row in rows)
        matrix = self.matrix[list(rows)]
        return LabelBank(self.name, self.model, self.model_hash, self.logit_scale, labels, matrix)

    def require_model(self, model: str, model_hash: str) -> None:
        """Raise BankError unless this bank was made by the model with that hash."""
        if self.model_hash != model_hash:
            raise BankError(
                f"bank {self.name!r} belongs to model {self.model} ({self.model_hash[:12]}), "
                f"not to {model} ({model_hash[:12]})",
                code="bank.other_model",
                hint="Build a bank for this model: `reelsight bank build labels.yaml --model ...`.",
            )

    def document(self) -> str:
        """Canonical JSON of everything but the matrix."""
        document: dict[str, Any] = {
            "format": BANK_FORMAT,
            "name": self.name,
            "model": self.model,
            "model_hash": self.model_hash,
            "logit_scale": self.logit_scale,
            "labels": [_document(label) for label in self.labels],
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _document(label: Label) -> dict[str, Any]:
    """A label's fields; `critical` only where it is, so that banks without it keep their ids."""
    fields = asdict(label)
    if not label.critical:
        del fields["critical"]
    return fields
