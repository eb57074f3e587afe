"""Model: the towers of a model on disk, described by model.json.

A model directory holds model.json and the image tower; a model that reads text also holds the text
tower and the tokenizer. A tower of 2 GB and more keeps its weights in a second file. The model's
hash covers all of them and everything in model.json that changes an answer, so a bank or an engine
bound to a hash is bound to the bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelsight.digest import file_sha256
from reelsight.errors import ModelError
from reelsight.nouns.engine_spec import Geometry

__all__ = ["MODEL_FORMAT", "Model"]

MODEL_FORMAT = 1
_KINDS = ("image", "text", "tokenizer")
_NOT_HASHED = ("name", "licence", "default_threshold")


@dataclass(frozen=True, slots=True)
class Model:
    """A model that engines can be made of.

    Attributes:
        name: Name in the catalogue.
        directory: Where its files are.
        geometry: What the image tower takes.
        dim: Length of an embedding.
        context_length: Tokens of the text tower's input; 0 without a text tower.
        logit_scale: Scale of the cosine in the model's loss.
        default_threshold: Cosine threshold of a label that names none.
        licence: SPDX identifier or a sentence.
        hash: sha256 (hex) over the files' hashes and the fields that change an answer.
        image: Absolute path of the image tower.
        sha256: What each file, by kind (`image`, `text`, `tokenizer`), must hash to.
        words: Absolute paths of the text tower and the tokenizer; None for an image-only model.
        data: Weights beside a tower, by the tower's kind: absolute path and what it must hash to.
    """

    name: str
    directory: Path
    geometry: Geometry
    dim: int
    context_length: int
    logit_scale: float
    default_threshold: float
    licence: str
    hash: str
    image: Path
    sha256: tuple[tuple[str, str], ...]
    words: tuple[Path, Path] | None
    data: tuple[tuple[str, Path, str], ...] = ()

    @property
    def text(self) -> Path:
        """Absolute path of the text tower.

        Raises:
            ModelError: `model.no_text_tower`: the model is image-only.
        """
        return self._words()[0]

    @property
    def tokenizer(self) -> Path:
        """Absolute path of the tokenizer.

        Raises:
            ModelError: `model.no_text_tower`: the model is image-only.
        """
        return self._words()[1]

    def _words(self) -> tuple[Path, Path]:
        if self.words is None:
            raise ModelError(
                f"{self.name} has an image tower alone: it cannot embed text",
                code="model.no_text_tower",
                hint="Label banks need a two-tower model, such as the shipped one or ViT-B-32/TAG.",
            )
        return self.words

    @classmethod
    def load(cls, directory: Path) -> Model:
        """Read model.json.

        Raises:
            ModelError: Something is missing or malformed.
        """
        directory = directory.absolute()
        path = directory / "model.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["format"] != MODEL_FORMAT:
                raise ModelError(f"{path} has format {document['format']}, expected {MODEL_FORMAT}")
            files = document["files"]
            # Both or neither: a text tower without its tokenizer reads nothing.
            kinds = _KINDS if "text" in files or "tokenizer" in files else _KINDS[:1]
            paths = {kind: directory / files[kind]["path"] for kind in kinds}
            data = tuple(
                (kind, directory / files[kind]["data"]["path"], str(files[kind]["data"]["sha256"]))
                for kind in kinds
                if "data" in files[kind]
            )
            model = cls(
                name=str(document["name"]),
                directory=directory,
                geometry=Geometry(**document["geometry"]),
                dim=int(document["dim"]),
                context_length=int(document["context_length"]) if len(kinds) > 1 else 0,
                logit_scale=float(document["logit_scale"]),
                default_threshold=float(document["default_threshold"]),
                licence=str(document["licence"]),
                hash=_hash(document),
                image=paths["image"],
                sha256=tuple(sorted((kind, str(files[kind]["sha256"])) for kind in kinds)),
                words=(paths["text"], paths["tokenizer"]) if len(kinds) > 1 else None,
                data=data,
            )
        except OSError as error:
            raise ModelError(f"no model at {directory}: {error}", code="model.missing") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is malformed: {error!r}") from error
        for file in (*paths.values(), *(path for _, path, _ in data)):
            if not file.is_file():
                raise ModelError(f"{model.name} lacks {file}", code="model.missing")
        return model

    def verify(self, *kinds: str) -> None:
        """Hash files, read whole, and compare: whoever opens a file verifies it first.

        Args:
            kinds: Of `image`, `text`, `tokenizer`; all that the model has when none is named.

        Raises:
            ModelError: A file is not the one that model.json, and so the model's hash, speaks of;
                or `model.no_text_tower`.
        """
        wanted = kinds or tuple(kind for kind, _ in self.sha256)
        expected = dict(self.sha256)
        for kind in wanted:
            path = self.image if kind == "image" else self._words()[kind == "tokenizer"]
            self._compare(path, expected[kind])
        for kind, path, digest in self.data:
            if kind in wanted:
                self._compare(path, digest)

    def _compare(self, path: Path, expected: str) -> None:
        if file_sha256(path) != expected:
            raise ModelError(
                f"{path} does not match the hash in model.json",
                code="model.damaged",
                hint="Install or export the model again.",
            )


def _hash(document: dict[str, Any]) -> str:
    kept = {key: value for key, value in document.items() if key not in _NOT_HASHED}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
