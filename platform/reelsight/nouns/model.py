"""Model: a pair of towers on disk, described by model.json.

A model directory holds model.json, the image tower, the text tower and the tokenizer. The model's
hash covers all of them and everything in model.json that changes an answer, so a bank or an
engine bound to a hash is bound to the bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelsight.errors import ModelError
from reelsight.nouns.engine_spec import Geometry

__all__ = ["MODEL_FORMAT", "Model"]

MODEL_FORMAT = 1
_NOT_HASHED = ("name", "licence", "default_threshold")


@dataclass(frozen=True, slots=True)
class Model:
    """A model that engines can be made of.

    Attributes:
        name: Name in the catalogue.
        directory: Where its files are.
        geometry: What the image tower takes.
        dim: Length of an embedding.
        context_length: Tokens of the text tower's input.
        logit_scale: Scale of the cosine in the model's loss.
        default_threshold: Cosine threshold of a label that names none.
        licence: SPDX identifier or a sentence.
        hash: sha256 (hex) over the files' hashes and the fields that change an answer.
        image, text, tokenizer: Absolute paths of the files.
        sha256: What each of them, by kind, must hash to.
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
    text: Path
    tokenizer: Path
    sha256: tuple[tuple[str, str], ...]

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
            files = {kind: document["files"][kind] for kind in ("image", "text", "tokenizer")}
            paths = {kind: directory / item["path"] for kind, item in files.items()}
            model = cls(
                name=str(document["name"]),
                directory=directory,
                geometry=Geometry(**document["geometry"]),
                dim=int(document["dim"]),
                context_length=int(document["context_length"]),
                logit_scale=float(document["logit_scale"]),
                default_threshold=float(document["default_threshold"]),
                licence=str(document["licence"]),
                hash=_hash(document),
                sha256=tuple(sorted((kind, str(item["sha256"])) for kind, item in files.items())),
                **paths,
            )
        except OSError as error:
            raise ModelError(f"no model at {directory}: {error}", code="model.missing") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is malformed: {error!r}") from error
        for file in paths.values():
            if not file.is_file():
                raise ModelError(f"{model.name} lacks {file}", code="model.missing")
        return model

    def verify(self, *kinds: str) -> None:
        """Hash files, read whole, and compare: whoever opens a file verifies it first.

        Args:
            kinds: Of `image`, `text`, `tokenizer`; all of them when none is named.

        Raises:
            ModelError: A file is not the one that model.json, and so the model's hash, speaks of.
        """
        paths = {"image": self.image, "text": self.text, "tokenizer": self.tokenizer}
        for kind, expected in self.sha256:
            if (not kinds or kind in kinds) and _sha256(paths[kind]) != expected:
                raise ModelError(
                    f"{paths[kind]} does not match the hash in model.json",
                    code="model.damaged",
                    hint="Install or export the model again.",
                )


def _hash(document: dict[str, Any]) -> str:
    kept = {key: value for key, value in document.items() if key not in _NOT_HASHED}
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
